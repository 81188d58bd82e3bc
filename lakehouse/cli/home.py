"""Commands about this installation: doctor, dev."""

from typing import Annotated, Any

import typer

from lakehouse.cli.command import command
from lakehouse.cli.screen import Screen
from lakehouse.errors import WRONG_USE


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    command(app, "doctor", panel="This installation")(doctor)
    command(app, "dev", panel="This installation")(dev)


def doctor(screen: Screen) -> None:
    """Check that everything is in place, and say how to fix what is not."""
    from lakehouse.pipeline.doctor import Health, examine

    findings = examine()
    broken = [one for one in findings if one.health is Health.BROKEN]
    document = {
        "ok": not broken,
        "checks": [{"check": one.check, "status": one.health.value, "detail": one.detail, "fix": one.fix} for one in findings],
    }

    def show(out: Any) -> None:
        styles = {Health.OK: "green", Health.WARNING: "yellow", Health.BROKEN: "bold red"}
        width = max(len(one.check) for one in findings)
        for one in findings:
            out.print(f"{one.health.value:<8}", style=styles[one.health], end="")
            out.print(f"{one.check:<{width}}  {one.detail}", markup=False, soft_wrap=True)
            if one.fix:
                out.print(f"{'':<8}{'':<{width}}  {one.fix}", markup=False, soft_wrap=True)

    screen.emit(document, show)
    if broken:
        raise typer.Exit(WRONG_USE)


def dev(
    screen: Screen,
    *,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; the default is reachable from this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 3000,
) -> None:
    """Start Dagster's web interface and daemon: assets, runs, sensors and schedules."""
    from lakehouse.pipeline.orchestrator import dev_command, prepare_instance, start_instead
    from lakehouse.pipeline.workspace import Workspace

    settings = Workspace.load().settings
    prepare_instance(settings)
    arguments = dev_command(host=host, port=port)
    url = f"http://{host}:{port}"
    if screen.json:
        screen.emit({"url": url, "dagster_home": settings.dagster_home, "command": arguments}, lambda _: None)
    else:
        screen.say(f"Starting Dagster on {url} (Ctrl-C stops it). Home: {settings.home_dir}")
    start_instead(settings, arguments)
