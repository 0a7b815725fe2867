"""Build man pages and shell completions from the parser of the command line, and install them as data files.

Everything else stands in pyproject.toml. The parser imports the standard library only, so this works where
ZODB is not installed.
"""

import sys
from importlib import import_module
from pathlib import Path

from setuptools import Command, setup

# setuptools brings distutils along, and must be imported before it
from distutils.command.install_data import install_data  # isort: skip

HERE = Path(__file__).resolve().parent


class build_manuals(Command):  # noqa: N801
    """``python setup.py build_manuals``: write man pages and completions below a directory."""

    description = "build man pages and shell completions"
    user_options = [("directory=", "d", "where share/... is made (default: build/manuals)")]  # noqa: RUF012

    def initialize_options(self):
        """Set the defaults."""
        self.directory = None

    def finalize_options(self):
        """Put the files into the build directory unless told otherwise."""
        self.directory = Path(
            self.directory or Path(self.get_finalized_command("build").build_base, "manuals")
        )

    def run(self):
        """Write all files and remember them as ``files``: ``(directory below the prefix, path)``."""
        self.files = []
        for place, name, text in [*self._man_pages(), *self._completions()]:
            path = self.directory / place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            self.files.append((place, str(path)))

    def _man_pages(self):
        from argparse_manpage.manpage import Manpage

        manual = self._livesync("manual")
        for page, parser in self._livesync("parser").group_parsers():
            parser.epilog = None  # its table of exit codes has a section of its own
            data = {
                "project_name": "livesync",
                "version": self.distribution.get_version(),
                "manual_title": "livesync",
                "description": manual.SUMMARIES[page],
            }
            manpage = Manpage(parser, _data=data)
            manpage.prog = page
            for heading, text in manual.sections(page):
                manpage.add_section(heading, ">", text)
            yield "share/man/man1", f"{page}.1", str(manpage)

    def _completions(self):
        import shtab

        build_parser = self._livesync("parser").build_parser
        yield "share/bash-completion/completions", "livesync", shtab.complete(build_parser(), shell="bash")
        yield "share/zsh/site-functions", "_livesync", shtab.complete(build_parser(), shell="zsh")

    @staticmethod
    def _livesync(module):
        """Import a module of livesync's command line from this source tree."""
        if str(HERE) not in sys.path:
            sys.path.insert(0, str(HERE))
        return import_module(f"livesync.cli.{module}")


class install_manuals(install_data):  # noqa: N801
    """Build the manuals and install them with the other data files."""

    def run(self):
        """Build, then install."""
        self.run_command("build_manuals")
        self.data_files = [
            (place, [path]) for place, path in self.get_finalized_command("build_manuals").files
        ]
        super().run()


setup(
    cmdclass={"build_manuals": build_manuals, "install_data": install_manuals},
    # Says that there are data files, so that install_data is called at all.
    data_files=[("share/man/man1", [])],
)
