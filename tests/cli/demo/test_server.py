"""The address that the page's server listens on."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest

from tpt.cli.programs import demo
from tpt.cli.programs.demo import listening_socket
from tpt.errors import UserError

pytestmark = pytest.mark.skipif(find_spec("gradio") is None, reason="the page's program needs gradio")


@pytest.mark.browser
def test_it_listens_only_on_this_machine(server: str) -> None:
    port = int(server.rsplit(":", 1)[1])
    with urllib.request.urlopen(server) as answer:
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    request = urllib.request.Request(server, headers={"Host": "elsewhere.example"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request)
    found = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=False).stdout.split()
    for address in found:
        with pytest.raises(OSError), socket.create_connection((address, port), timeout=2):
            pass


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"Cannot listen on port {port} of '127.0.0.1'"):
            listening_socket("127.0.0.1", port)


@pytest.mark.slow
def test_another_host_gives_a_warning(tmp_path: Path) -> None:
    """The server warns that it has no password; it accepts IP addresses and refuses other host names."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from tpt.cli.programs.opening import demo; demo()", "--port", "0", "--host", "0.0.0.0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    try:
        assert process.stdout is not None
        assert "no password" in process.stdout.readline()
        url = f"http://127.0.0.1:{process.stdout.readline().split(':')[2].split()[0]}"
        assert urllib.request.urlopen(url).status == 200
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(urllib.request.Request(url, headers={"Host": "elsewhere.example"}))
    finally:
        process.terminate()
        process.wait()


def test_hosts_that_are_not_this_machine_are_refused() -> None:
    for host in ("203.0.113.1", "no-such-host.invalid", "", "a..b", "a" * 70, "http://127.0.0.1", "127.0.0.1:80"):
        with pytest.raises(UserError, match=re.escape(f"of {host!r}")) as error:
            listening_socket(host, 0)
        assert "while attempting" not in str(error.value)


def test_a_wrong_address_is_refused_before_loading_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tpt.cli.compose.compose", pytest.fail)
    with pytest.raises(SystemExit, match="1"):
        demo.main(["--host", "a..b"])
