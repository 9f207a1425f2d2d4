"""What tests of verbs share."""

import pytest

from relight.cli import main


@pytest.fixture
def fails(capsys):
    """Runs a command that must fail by the user's fault; gives its messages."""

    def fails(*words: object) -> str:
        capsys.readouterr()
        assert main([str(w) for w in words]) == 2
        out, err = capsys.readouterr()
        assert out == "" and "Traceback" not in err and "bug" not in err
        assert all(line.startswith("error: ") for line in err.splitlines()), err
        return err

    return fails
