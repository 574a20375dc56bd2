"""`tulle lab`: a whole cluster in namespaces on this machine."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tulle.cli.init import key_value
from tulle.cli.output import as_data, output_option, table
from tulle.cli.words import Words

if TYPE_CHECKING:
    from tulle.lab import Lab

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_NAME = "default"

name_option = click.option("--name", default=DEFAULT_NAME, show_default=True, help="Which lab.")


def cluster_options(command: F) -> F:
    """What a lab is made of, for those that make one."""
    options = [
        click.option(
            "--backend",
            default="udp",
            show_default=True,
            help='How packets reach other nodes; "none": not at all.',
        ),
        click.option(
            "--backend-option",
            "backend_options",
            multiple=True,
            metavar="KEY=VALUE",
            help="A key of Backend in the network config; VALUE may be JSON. Repeat it for more.",
        ),
        click.option("--engine", default="auto", show_default=True, help="What moves the packets."),
        click.option("--store", default="sqlite", show_default=True, type=click.Choice(["sqlite", "etcd"])),
        click.option(
            "--family",
            default="4",
            show_default=True,
            type=click.Choice(["4", "6", "dual"]),
            help="IP versions.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.group(cls=Words)
def lab() -> None:
    """A whole cluster in namespaces on this machine.

    Each node has a real tulled, a bridge and pods; nothing of it touches the host's own network. It works as root, and
    as a user where the kernel lets users make namespaces.
    """


@lab.command()
@click.option("--nodes", default=3, show_default=True)
@click.option("--pods", default=2, show_default=True, help="On each node.")
@cluster_options
@name_option
@output_option
def up(output: str, **given: Any) -> None:
    """Build a lab that stays until `tulle lab down`."""
    made = wanted_lab(**given)
    with explained():
        made.up(said=lambda step: click.echo(f"  {step}", err=output != "text"))
        made.detach()
    plan = made.plan
    pods = {place: [made.address(place, family) for family in plan.families] for place in plan.pod_places}
    if as_data({"name": plan.name, "nodes": plan.node_names, "pods": pods}, output):
        return
    click.echo(f"The lab {plan.name!r} is up: nodes {', '.join(plan.node_names)}.")
    for place, addresses in pods.items():
        click.echo(f"  {place}  {', '.join(addresses)}")
    chosen = "" if plan.name == DEFAULT_NAME else f" --name {plan.name}"
    from tulle.lab.demo import called

    tulle = called("tulle")
    click.echo(f"next: {tulle} lab exec{chosen} n1 -- tulle status    and at last: {tulle} lab down{chosen}")


@lab.command("list")
@output_option
def list_(output: str) -> None:
    """The labs of this user that run."""
    with explained():
        rows = described()
    if as_data(rows, output):
        return
    if not rows:
        click.echo("No lab runs. Start one with: tulle lab up")
    else:
        keys = ("name", "nodes", "pods", "backend", "store", "family", "pid")
        table([key.upper() for key in keys], [[row[key] for key in keys] for row in rows])


def described() -> list[dict[str, Any]]:
    """A row for each lab; one that is not whole has "-" for what is not known."""
    from tulle.lab import Lab, LabError
    from tulle.lab.registry import Registry

    rows = []
    for name, process in Registry().living().items():
        row: dict[str, Any] = dict.fromkeys(("nodes", "pods", "backend", "store", "family"), "-")
        row |= {"name": name, "pid": process.pid}
        try:
            plan = Lab.attach(name).plan
        except LabError:
            rows.append(row)
            continue
        rows.append(
            row | {key: getattr(plan, key) for key in ("nodes", "pods", "backend", "store", "family")}
        )
    return rows


@lab.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@name_option
@click.argument("place", metavar="NODE[/POD]")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD...")
def exec_(name: str, place: str, command: tuple[str, ...]) -> None:
    """Run CMD in a node, in a pod, or on the wire between the nodes ("switch"). Its exit status is ours."""
    from tulle.lab import Lab

    # click leaves the "--" in because options may follow the place without it.
    words = command[1:] if command[0] == "--" else command
    if not words:
        raise click.UsageError("say what to run: tulle lab exec n1 -- CMD...")
    with explained():
        program = Lab.attach(name).command(place, words)
    os.execv(program[0], program)


@lab.command()
@name_option
@output_option
def down(name: str, output: str) -> None:
    """End a lab. Nothing of it is left."""
    from tulle.lab.launch import end
    from tulle.lab.registry import Registry

    with explained():
        registry = Registry()
        process = registry.find(name)
        end(process)
        registry.remove(name, process)
    if not as_data({"name": name, "down": True}, output):
        click.echo(f"The lab {name!r} is down.")


@lab.command()
@cluster_options
def demo(**given: Any) -> None:
    """Build three nodes, show what tulle does, take them down. Under a minute."""
    from tulle.lab import demo as show

    def title(text: str) -> None:
        click.secho(f"\n{text}", bold=True)

    made = wanted_lab(**given)
    with explained():
        show.run(made, title, lambda text: click.echo(f"  {text}"))


def wanted_lab(*, backend: str, backend_options: tuple[str, ...], **given: Any) -> Lab:
    """A lab that is not up. Raises ConfigError where its tulleds would refuse their network config, before anything
    is built for them."""
    from tulle.lab import Lab
    from tulle.lab.plan import NO_BACKEND
    from tulle.node.network import check_network
    from tulle.plugins import load_plugins

    made = Lab(backend=backend, backend_options=dict(map(key_value, backend_options)), **given)
    if backend != NO_BACKEND:
        for warning in check_network(json.dumps(made.plan.network_config()), load_plugins()).warnings:
            click.echo(f"warning: {warning}", err=True)
    return made


@contextmanager
def explained() -> Iterator[None]:
    """The lab's errors, whose text is for people, as click's."""
    from tulle.lab import LabError

    try:
        yield
    except LabError as error:
        raise click.ClickException(str(error)) from error
