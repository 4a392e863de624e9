"""The `ritz` command, run in the process of the test."""

from ritz.cli import main


def ritz(capsys, *arguments) -> tuple[int, str, str]:
    """Run the command; return its exit code, output and errors."""
    code = 0
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as exit_:
        code = exit_.code
    captured = capsys.readouterr()
    return code or 0, captured.out, captured.err
