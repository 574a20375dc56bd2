"""`tulle docker-opts`: makes Docker's bridge out of subnet.env, by a file of environment variables for its unit.

The same words as flannel's helper has, so that a unit with `EnvironmentFile=/run/docker_opts.env` and
`dockerd $DOCKER_OPTS` goes on working. The short options are those of that helper.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from tulle.files import write_atomically
from tulle.net.prefix import parse_covering_prefix

SUBNET_FILE = "/run/flannel/subnet.env"
DOCKER_FILE = "/run/docker_opts.env"
COMBINED = "DOCKER_OPTS"


@click.command("docker-opts")
@click.option(
    "-f",
    "--subnet-file",
    type=click.Path(path_type=Path),
    envvar="TULLED_SUBNET_FILE",
    default=SUBNET_FILE,
    show_default=True,
    help="tulled's subnet.env.",
)
@click.option(
    "-d",
    "--docker-file",
    type=click.Path(path_type=Path, allow_dash=True),
    default=DOCKER_FILE,
    show_default=True,
    help="The file to write; - for standard output.",
)
@click.option("-i", "--individual", is_flag=True, help="Only a variable for each option: DOCKER_OPT_BIP, ...")
@click.option("-c", "--combined", is_flag=True, help="Only one variable with all options.")
@click.option(
    "-k",
    "--key",
    default=COMBINED,
    show_default=True,
    help="The name of that one: DOCKER_NETWORK_OPTIONS on Red Hat's systems.",
)
@click.option("-m", "--no-ip-masq", is_flag=True, help="Leave --ip-masq out.")
def docker_opts(
    subnet_file: Path, docker_file: Path, individual: bool, combined: bool, key: str, no_ip_masq: bool
) -> None:
    """Write dockerd's options for this node's subnet: --bip, --ip-masq, --mtu.

    Without -i and -c both forms are written. Docker masquerades where tulled does not (--ip-masq).
    """
    key = key.removesuffix("=")
    if not key.isidentifier() or not key.isascii():
        raise click.BadParameter(f"{key!r} is no name of a variable", param_hint="--key")
    try:
        text = subnet_file.read_text()
    except OSError as error:
        raise click.ClickException(
            f"{subnet_file} cannot be read ({error.strerror}): tulled writes it once it is ready; "
            "see `tulle status`, or name its file with -f"
        ) from error
    try:
        options = docker_options(parsed(text), ip_masq=not no_ip_masq)
    except ValueError as error:
        raise click.ClickException(
            f"{subnet_file} is not whole: {error}; start tulled, which writes it"
        ) from error
    both = individual == combined
    rendered = render(options, key, individual=individual or both, combined=combined or both)
    if str(docker_file) == "-":
        click.echo(rendered, nl=False)
        return
    try:
        docker_file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(docker_file, rendered.encode(), mode=0o644)
    except OSError as error:
        raise click.ClickException(
            f"{docker_file} cannot be written ({error.strerror}): name another file with -d"
        ) from error
    click.echo(f"wrote {docker_file}")


def parsed(text: str) -> dict[str, str]:
    """subnet.env's variables."""
    lines = (line.strip().partition("=") for line in text.splitlines())
    return {name: value.strip("\"'") for name, equals, value in lines if equals}


def docker_options(subnet: Mapping[str, str], *, ip_masq: bool) -> dict[str, str]:
    """dockerd's options by the last word of their variable. Raises ValueError, with the variable that is missing or
    makes no sense. IPv6, which flannel's helper does not know, adds what Docker needs for it."""
    four, six = subnet.get("FLANNEL_SUBNET", ""), subnet.get("FLANNEL_IPV6_SUBNET", "")
    if not four and not six:
        raise ValueError("it has neither FLANNEL_SUBNET nor FLANNEL_IPV6_SUBNET")
    for name, value in (("FLANNEL_SUBNET", four), ("FLANNEL_IPV6_SUBNET", six)):
        if value:
            _checked(name, value)
    mtu, masquerades = subnet.get("FLANNEL_MTU", ""), subnet.get("FLANNEL_IPMASQ", "")
    if mtu and not (mtu.isascii() and mtu.isdigit()):
        raise ValueError(f"FLANNEL_MTU is {mtu!r}")
    options = {"BIP": f"--bip={four}"} if four else {}
    if six:
        options["IPV6"] = "--ipv6"
        options["FIXED_CIDR_V6"] = f"--fixed-cidr-v6={parse_covering_prefix(six)}"
    if ip_masq and masquerades:
        options["IPMASQ"] = f"--ip-masq={'false' if masquerades == 'true' else 'true'}"
    if mtu:
        options["MTU"] = f"--mtu={mtu}"
    return options


def _checked(name: str, value: str) -> None:
    """What goes into a shell's file is a subnet and nothing else."""
    try:
        parse_covering_prefix(value)
    except ValueError:
        raise ValueError(f"{name} is {value!r}, which is no subnet") from None


def render(options: Mapping[str, str], key: str, *, individual: bool, combined: bool) -> str:
    """The file's text."""
    lines = [f'DOCKER_OPT_{name}="{option}"' for name, option in options.items()] if individual else []
    if combined:
        lines.append(f'{key}=" {" ".join(options.values())}"')
    return "\n".join([*lines, ""])
