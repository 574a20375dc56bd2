"""`tulle status`: what the tulled of this node does and what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tulle.cli.output import as_json, duration, output_option, size, table
from tulle.node.client import Client


@click.command()
@click.option("--run-dir", default="/run/tulle", show_default=True, envvar="TULLED_RUN_DIR", help="tulled's.")
@output_option
def status(run_dir: str, output: str) -> None:
    """What this node does and what is wrong. Exit status 1 where it is not ready."""
    answer = Client(Path(run_dir)).get("status")
    if output == "json":
        as_json(answer)
    else:
        show(answer)
    if not answer["ready"]:
        raise SystemExit(1)


def show(answer: dict[str, Any]) -> None:
    """One screen."""
    store, plane, underlay = answer["store"], answer["dataplane"], answer["underlay"]
    state = "ready" if answer["ready"] else f"not ready: {'; '.join(answer['not_ready_because'])}"
    kind = ", single-machine" if store["single_machine"] else ""
    click.echo(f"node      {answer['node']}: {state} (tulle {answer['version']})")
    click.echo(f"store     {store['name']} at {store['location']}{kind}: {store.get('state', 'unknown')}")
    if underlay:
        public = ", ".join(underlay["public"])
        click.echo(f"underlay  {underlay['link']}, MTU {underlay['mtu']}, {public} ({underlay['because']})")
    if answer["subnets"]:
        click.echo(f"subnets   {', '.join(answer['subnets'])} of {', '.join(answer['networks'])}")
    if plane:
        generation = f"state {plane['generation_applied']} of {plane['generation_wanted']}"
        click.echo(
            f"backend   {answer['backend'].get('type')}: engine {plane['engine']} ({plane['engine_because']}), "
            f"forwarder {plane['forwarder_pid'] or 'not running'}, {generation}"
        )
        for note in plane["engine_notes"]:
            click.echo(f"          {note}")
        counters = sorted(plane["counters"].items())
        click.echo("counters  " + (", ".join(f"{name} {value}" for name, value in counters) or "none yet"))
    _show_peers(answer["peers"], plane.get("peers", {}))
    for mend in answer["mended"][-5:]:
        click.echo(f"mended    {mend['line']}")
    for problem in answer["problems"]:
        click.echo(f"problem   {problem['subject']}: {problem['message']}")


def _show_peers(peers: list[dict[str, Any]], traffic: dict[str, dict[str, float]]) -> None:
    if not peers:
        click.echo("peers     none yet: is another node's tulled running on this store?")
        return
    rows = []
    for peer in peers:
        seen = traffic.get(peer["key"], {})
        rows.append(
            (
                peer["node"],
                ", ".join(peer["subnets"]),
                ", ".join(peer["endpoints"]),
                duration(seen.get("last-seen")),
                f"{seen.get('packets-out', 0):.0f} ({size(seen.get('bytes-out', 0))})",
                f"{seen.get('packets-in', 0):.0f} ({size(seen.get('bytes-in', 0))})",
            )
        )
    table(("PEER", "SUBNETS", "ENDPOINTS", "LAST SEEN", "OUT", "IN"), rows)
