"""The file with the variables of a DNS provider: what it may hold, who may read it, and that no text shows values."""

from pathlib import Path

import pytest

from podserve.certificates.provider import Variables, read_variables
from podserve.errors import Problem


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    """Return a file with this text and mode."""
    file = folder / "provider"
    file.write_text(text)
    file.chmod(mode)
    return file


def test_variables_are_read_as_in_a_file_for_a_shell(tmp_path: Path) -> None:
    text = "# for lego\n\nA_TOKEN=a b=c#d\n  export B='single'\nC=\"double\"\nD=\nE=it's\n"
    values = {"A_TOKEN": "a b=c#d", "B": "single", "C": "double", "D": "", "E": "it's"}
    variables = read_variables(written(tmp_path, text))
    assert variables.values == values
    assert "".join(f"{name}={value}\n" for name, value in values.items()) == variables.lines()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o644])
def test_a_file_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    file = written(tmp_path, "A=1\n", mode)
    with pytest.raises(Problem, match=f"chmod 0600 {file}"):
        read_variables(file)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty: expected lego's variables"),
        ("# only\n", "is empty"),
        ("A=1\nhunter2hunter2\n", "line 2 of acme_dns_file, .* is not NAME=VALUE"),
        ("path=hunter2hunter2\n", "line 1 of"),
        ("A-B=hunter2hunter2\n", "line 1 of"),
        ("=hunter2hunter2\n", "line 1 of"),
        ("\xff\x00hunter2hunter2\n", "line 1 of"),
    ],
)
def test_what_holds_no_variables_is_refused_without_showing_it(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(Problem, match=said) as refused:
        read_variables(written(tmp_path, text))
    assert "hunter2" not in refused.value.text


@pytest.mark.parametrize("name", ["none", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(Problem, match=r"acme_dns_file, .* cannot be read: (No such file|Is a directory)"):
        read_variables(tmp_path / name)


def test_no_text_shows_a_value() -> None:
    variables = Variables({"TOKEN": "hunter2/hunter2+", "TTL": "60"})
    said = "Get https://api.example/?t=hunter2%2Fhunter2%2B&x=hunter2/hunter2+: 60 s"
    assert variables.masked(said) == "Get https://api.example/?t=…&x=…: 60 s"
    assert "hunter2" not in repr(variables)
