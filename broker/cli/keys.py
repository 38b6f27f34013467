"""Written by a colleague in a moment."""
import typer

app = typer.Typer()


@app.command()
def x() -> None: ...
