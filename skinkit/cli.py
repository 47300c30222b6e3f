"""The command line, made from the stages and the commands; the only place that prints errors or exits.

Only the invoked command's module is loaded, and none of them imports a heavy library before it works, so every
``--help`` is instant.
"""

from __future__ import annotations

import contextlib
import errno
import inspect
import os
import re
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer

from skinkit import __version__
from skinkit.api import named_by_model
from skinkit.artifacts.builder import Share
from skinkit.artifacts.files import json_values
from skinkit.commands import COMMANDS, PANELS, SYNONYMS, Context, _onnx, _photo, load_command
from skinkit.commands._command_line import (
    CommandHelp,
    Overview,
    flags_of,
    own_options,
    parameters_of,
    passed_values,
    values_of_first_argument,
)
from skinkit.commands._output import checked_outputs
from skinkit.console import Console, abandon, as_lines, harmless, json_text
from skinkit.errors import UNUSABLE, ConfigError, InputError, SkinkitError, did_you_mean, listed
from skinkit.options import make_config
from skinkit.privacy import permissions
from skinkit.stages import STAGES, load_stage
from skinkit.workers.cores import usable_cores
from skinkit.workspace import SETTINGS_FILE

EXIT_CODES = (
    "Exit codes: 0 done, 1 internal error, 2 usage or configuration, 3 finished with newly failed cases, "
    "4 input or artifact unusable, 5 refused (leakage, checksum), 6 busy (locked), 129/130/143 interrupted."
)
_HINT = "Start with 'skinkit demo', or 'skinkit init'; 'skinkit help COMMAND' shows details, 'skinkit -V' the version."
NEWLY_FAILED = 3
_INTERRUPTED = (129, 130, 143)
_NO_PERMISSION = (errno.EPERM, errno.EACCES)
_QUOTED = re.compile(r"'[^']*'")
_NO_CHOICE = re.compile(r"'(?P<value>[^']*)' is not one of ")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
_GONE = (errno.ENOENT, errno.ENOTDIR)


@dataclass
class CommandResult:
    """The result of a command.

    Attributes:
        exit_code: see :data:`EXIT_CODES`.
        body: for ``--json``.
        text: for a person, on stdout.
        after: what goes on once the result is printed, such as a server; it returns the exit code.
    """

    exit_code: int = 0
    body: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    after: Callable[[], int] | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; never raises."""
    # Threads of networks that wait for each other fall asleep soon: on a machine that does other work, one that stays
    # awake takes the processor from the one it waits for, and a training step takes up to 14 times as long. Asleep at
    # once they would lose a tenth to a quarter where nothing else runs; a thousand looks before cost neither.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    _open_streams()
    command_line = list(sys.argv[1:] if arguments is None else arguments)
    if command_line[:1] == ["help"]:
        named = [word for word in command_line[1:] if word != "help" and not word.startswith("-")]
        command_line = [*named[:1], "--help"]
    command_line = command_line or ["--help"]
    if (asked := {*command_line} - {"--json"}) and asked <= {"--version", "-V"}:
        # Handled here: as an option it would make every --help load pydantic (0.15 s).
        answer = CommandResult(body={"version": __version__}, text=f"skinkit {__version__}")
        return _print_answer(answer, Console(), as_json="--json" in command_line)
    console = Console(log_format=_log_format(command_line), run_id=_run_id(), command=command_line[0])
    with permissions.restored(), _ended_by_signals(), console.whole_stderr():
        began = time.monotonic()
        console.event("begin", skinkit=__version__)
        answer = _guarded(command_line, console)
        if answer.after is not None:
            answer = _went_on(answer, console, as_json="--json" in command_line)
        console.stage = console.artifact = ""
        console.event("end", exit_code=answer.exit_code, duration_s=round(time.monotonic() - began, 3))
    answer.body = {"run_id": console.run_id, **answer.body}
    printed = answer.after is not None
    exit_code = answer.exit_code if printed else _print_answer(answer, console, as_json="--json" in command_line)
    processes = sys.modules.get("skinkit.learning.processes")  # it loads torch: not here, unless the command did
    if processes is not None:
        processes.leave_company(exit_code)
    return exit_code


def _went_on(answer: CommandResult, console: Console, *, as_json: bool) -> CommandResult:
    """Print the result of a command, then do what comes after it; the answer of that, which is not printed again."""
    after = answer.after
    assert after is not None
    answer.body = {"run_id": console.run_id, **answer.body}
    code = _print_answer(answer, console, as_json=as_json)
    ended = CommandResult(code) if code else _caught(lambda: CommandResult(after()), console)
    ended.after = after
    return ended


def _run_id() -> str:
    """When the run began, in UTC, and the number of its process."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + f"-{os.getpid()}"


def _log_format(command_line: Sequence[str]) -> str:
    """What ``--log-format`` says, before anything is parsed: errors of parsing go to the log too."""
    formats = [two for one, two in pairwise([*command_line, ""]) if one == "--log-format"]
    formats += [one.partition("=")[2] for one in command_line if one.startswith("--log-format=")]
    return "json" if formats and formats[-1] == "json" else "text"


def _open_streams() -> None:
    """Give a process that was started with stdin, stdout or stderr closed the null device in their place.

    The next file it opens would get their number, and what is printed would be written into it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number is this one
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for as long as the process
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _print_answer(answer: CommandResult, console: Console, *, as_json: bool) -> int:
    """Print the result of a command and return the exit code."""
    text = answer.text
    if as_json:
        body = json_values({"exit_code": answer.exit_code, "error": None, **answer.body})
        # Text that stdout's encoding lacks is escaped; a path that is no Unicode always.
        unicode = "utf" in (sys.stdout.encoding or "").lower()
        text = json_text(body, indent=1, ensure_ascii=not unicode, default=str)
    else:
        text = harmless(text)
    try:
        if text:
            encoding = sys.stdout.encoding or "utf-8"
            print(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except OSError as error:
        abandon(sys.stdout)
        if isinstance(error, BrokenPipeError):  # the reader (head, less) has seen enough
            return answer.exit_code
        unwritable = InputError(f"stdout: {error.strerror}", "room for what is printed", "print it elsewhere")
        failed = _failed(unwritable, console)
        return answer.exit_code or failed.exit_code
    return answer.exit_code


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM, SIGINT and SIGHUP end what runs meanwhile, wherever it is; the last two not where they are ignored.

    A background job ignores SIGINT, what ``nohup`` starts SIGHUP.
    """
    import threading

    inside = signal.getsignal(signal.SIGTERM) is _stopped  # a command that runs another one ends with it
    if inside or threading.current_thread() is not threading.main_thread():
        yield
        return
    wished = [n for n in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    numbers = [signal.SIGTERM, *wished]
    before = {number: signal.signal(number, _stopped) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        Console.stop = None


def _stopped(number: int, frame: object) -> None:
    Console.stop = KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
    raise Console.stop


def _guarded(command_line: list[str], console: Console) -> CommandResult:
    """Run the command line; every outcome becomes an :class:`CommandResult`."""

    def run() -> Any:
        app, program = app_of(command_line, console)
        arguments = command_line[1:] if program != "skinkit" else command_line
        return app(args=arguments, prog_name=program, standalone_mode=False)

    try:
        return _caught(run, console, shows_help=bool({"--help", "-h"} & set(command_line)))
    except typer.TyperException as error:
        return _misused(error, command_line, console)


def _caught(work: Callable[[], Any], console: Console, *, shows_help: bool = False) -> CommandResult:
    """Do some work; every outcome but wrong usage becomes an :class:`CommandResult`."""
    try:
        result = work()
    except SkinkitError as error:
        return _stopped_before(console) or _failed(error, console)
    except typer.TyperException:
        raise
    except typer.Abort as abort:
        ended = abort.__cause__  # typer takes the end of any file for the user's wish to stop
        return _crashed(ended, console) if isinstance(ended, EOFError) else _interrupted(130, console)
    except KeyboardInterrupt:
        return _interrupted(130, console)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
        if code == 1 and shows_help:  # how a help ends whose reader has seen enough
            return CommandResult()
        return _interrupted(code, console) if code in _INTERRUPTED else CommandResult(code)
    except OSError as error:
        user_error = _disk_error(error)
        stopped = _stopped_before(console)
        return stopped or (_failed(user_error, console) if user_error else _crashed(error, console))
    except MemoryError:
        out_of_memory = InputError("this machine has not enough memory", "enough for the work", "use fewer --jobs")
        return _failed(out_of_memory, console)
    except Exception as error:  # noqa: BLE001 - the last boundary: a traceback for the authors, a sentence for the user
        return _stopped_before(console) or _crashed(error, console)
    if isinstance(result, CommandResult):
        return result
    return _interrupted(130, console) if result == 130 else CommandResult(int(result or 0))


def _stopped_before(console: Console) -> CommandResult | None:
    """The answer of a run that a signal ended, where some library made another error of that; else None."""
    stop = Console.stop
    if stop is None:
        return None
    return _interrupted(stop.code if isinstance(stop, SystemExit) and isinstance(stop.code, int) else 130, console)


def _failed(error: SkinkitError, console: Console) -> CommandResult:
    error.fix = _for_command(error, console.command)
    # Each in one line: a file name in it could forge others.
    parts = {"found": error.found, "expected": error.expected, "fix": error.fix}
    text = as_lines(["error", *(f"  {part + ':':<9} {of}" for part, of in parts.items())])
    console.error("" if console.is_json else text, **error.as_dict())
    return CommandResult(error.exit_code, {"error": error.as_dict()})


def _for_command(error: SkinkitError, command: str) -> str:
    """The fix; of options that the command has not, but the stage has that failed on its way, whose they are."""
    stage = error.stage
    if not stage or stage == command:
        return error.fix
    own = flags_of(command) if command in STAGES or command in COMMANDS else {}
    named = dict.fromkeys(_OPTION.findall(_QUOTED.sub("", error.fix)))
    foreign = [option for option in named if option not in own and option in flags_of(stage)]
    where = f"{listed(foreign)}: of 'skinkit {stage}', or under [stage.{stage}] of {SETTINGS_FILE}"
    return f"{error.fix} ({where})" if foreign else error.fix


def _misused(error: typer.TyperException, command_line: Sequence[str], console: Console) -> CommandResult:
    format_message = getattr(error, "format_message", None)
    text = str(format_message() if format_message is not None else error)
    name = command_line[0]
    expected, command = "a command line that 'skinkit --help' describes", ""
    flags: Mapping[str, Any] = {"--help": (), "--version": ()}
    if name in STAGES or name in COMMANDS:
        expected, command, flags = f"a command line that 'skinkit help {name}' describes", f" {name}", flags_of(name)
    if text.startswith("No such option"):
        wrong = str(getattr(error, "option_name", "") or "")
        text = f"No such option: {wrong}"
        expected = did_you_mean(wrong, [flag for flag in flags if flag.startswith("--")])
    elif value := _NO_CHOICE.search(text):
        spellings = getattr(getattr(error, "param", None), "opts", ())
        spelling = next((each for each in spellings if each in flags), "")
        choices = flags[spelling][1] if spelling else values_of_first_argument(name)
        text, expected = f"{spelling} {value['value']}".strip(), did_you_mean(value["value"], choices)
    return _failed(ConfigError(text, expected, f"see 'skinkit{command} --help'"), console)


def _interrupted(code: int, console: Console) -> CommandResult:
    console.error("interrupted; what was finished is kept, run the same command again to go on", kind="Interrupted")
    kind = {"kind": "Interrupted", "found": "a signal", "expected": "to finish", "fix": "run the same command again"}
    return CommandResult(code, {"error": kind})


def _disk_error(error: OSError) -> SkinkitError | None:
    place = error.filename or "the workspace"
    if error.errno in UNUSABLE:
        return InputError(
            f"{place}: {UNUSABLE[error.errno]}",
            "room to write; finished artifacts are untouched",
            "free some space (or choose another workspace) and run the same command again",
        )
    if error.errno in _NO_PERMISSION:
        return InputError(f"{place}: permission denied", "a file this user may use", "change its permissions")
    if error.errno in _GONE and not _has_folder():
        return InputError(
            "the current folder is not there any more", "a folder to work in", "change to another one and run it again"
        )
    if error.errno in _GONE and error.filename:
        return InputError(f"{place} is not there", "files that stay while skinkit works", "bring it back and rerun")
    return None


def _has_folder() -> bool:
    """Whether the current folder exists."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def _crashed(error: Exception, console: Console) -> CommandResult:
    text = "".join(traceback.format_exception(error))
    what = f"internal error in skinkit {__version__}: please report"
    if console.is_json:
        console.error(f"{what} it", kind=type(error).__name__, traceback=text)
    else:
        console.error(f"{text}\n{what} the lines above")
    kind = {"kind": type(error).__name__, "found": str(error), "expected": "no internal error", "fix": "report it"}
    return CommandResult(1, {"error": {**kind, "traceback": text}})


# ------------------------------------------------------------------------------------------- building the app


def app_of(command_line: Sequence[str], console: Console) -> tuple[typer.Typer, str]:
    """The app and the program name it goes by.

    A command that is named gets an app of its own; the overview knows of each command only its line of help. So no
    module is loaded that is not needed.
    """
    names: dict[str, Any] = {"help_option_names": ["--help", "-h"], "max_content_width": 110}
    app = typer.Typer(
        help="From a photo of a skin lesion to a report, in resumable steps. Research software: no diagnosis.",
        epilog=f"{_HINT} {EXIT_CODES}",
        cls=Overview,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # boxes and colours would cost another 0.2 s, most of it rich's Markdown parser
        context_settings=names,
    )
    one_liners = {**STAGES, **COMMANDS}
    if command_line and not command_line[0].startswith("-"):
        name = command_line[0]
        if name not in one_liners:
            fix = f"run 'skinkit {SYNONYMS[name]}'" if name in SYNONYMS else "see 'skinkit --help'"
            raise ConfigError(f"no command {name!r}", did_you_mean(name, one_liners, SYNONYMS), fix)
        if name == "evaluate":
            _refuse_outside_predictions(command_line[1:])
        function = _stage_function(name, console) if name in STAGES else _command_function(name, console)
        text = _long_help(function, one_liners[name])
        app.command(name, cls=CommandHelp, help=text, epilog=EXIT_CODES, context_settings=names)(function)
        return app, f"skinkit {name}"
    for panel, table in PANELS.items():
        for name, line in table.items():
            app.command(name, help=line, rich_help_panel=panel, context_settings=names)(_placeholder)
    return app, "skinkit"


def _refuse_outside_predictions(arguments: Sequence[str]) -> None:
    """Refuse ``evaluate --predictions FILE`` and suggest the equivalent ``score`` command.

    Raises:
        ConfigError: the option is there; the fix carries over what ``score`` knows of the others.
    """
    flags, file, carried, keeps = flags_of("score"), "FILE", list[str](), False
    for at, word in enumerate(arguments):
        flag, equals, value = word.partition("=")
        if flag == "--predictions":
            file, keeps = value if equals else next(iter(arguments[at + 1 :]), "FILE"), False
        elif re.match(r"-[A-Za-z-]", word):
            keeps = flag in flags
        if keeps:
            carried.append(word)
    if any(word.partition("=")[0] == "--predictions" for word in arguments):
        raise ConfigError(
            f"evaluate --predictions {file}",
            "'skinkit score' for a table made elsewhere",
            shlex.join(["skinkit", "score", file, *carried]),
        )


def _placeholder() -> None:
    """Stands for a command that was not asked for."""


def _long_help(function: Callable[..., Any], line: str) -> str:
    """The one line, then what the module says of itself."""
    document = inspect.cleandoc(function.__doc__ or "")
    _, *paragraphs = document.split("\n\n")
    # What is indented is an example: the mark of click keeps its lines apart.
    return "\n\n".join([line, *(f"\b\n{one}" if one.startswith("    ") else one for one in paragraphs)])


def _stage_function(name: str, console: Console) -> Callable[..., CommandResult]:
    stage = load_stage(name)
    options = own_options(name)

    def function(**values: Any) -> CommandResult:
        settings, called = named_by_model(name, passed_values(options, values), values["name"] or "")
        console.quiet = values["quiet"]
        if name == "predict" and settings.keys() & _onnx.OPTIONS:
            context = _context(values, console)
            with checked_outputs(make_config(stage.Config, settings, where="the command line"), context):
                return _answered(_onnx.run(settings, called, context))
        if name == "predict" and settings.keys() & _photo.OPTIONS:
            return _answered(_photo.run(settings, called, _context(values, console)))
        direct = getattr(stage, "direct", None)
        if direct is not None:
            answer = direct(make_config(stage.Config, settings, where="the command line"), console)
            if answer is not None:
                return _answered(answer)
        context = _context(values, console)
        workspace = context.workspace()
        for cohort in values["external"] or ():
            if workspace.cohort(cohort).role != "external":
                raise ConfigError(
                    f"--external {cohort}: its role is {workspace.cohort(cohort).role}",
                    "a cohort with role = 'external'",
                    f"use --cohort {cohort}, or change the role in skinkit.toml",
                )
        pipeline = context.pipeline(workspace)
        error: SkinkitError | None = None
        try:
            pipeline.make(name, settings, cohorts=context.cohorts, name=called)
        except getattr(stage, "GOES_ON", ()) as raised:
            if not any(step.stage == name for step in pipeline.steps):
                raise
            error = raised  # other targets were made and are reported too
        steps = pipeline.steps
        failures = sum(s.artifact.manifest["counts"]["newly_failed"] for s in steps if not s.fresh)
        body: dict[str, Any] = {"command": name, "steps": [step.as_dict() for step in steps], "newly_failed": failures}
        if pipeline.share is not None:
            body["shares"] = [step.as_dict() for step in pipeline.shared]
        report = getattr(stage, "summary", None)
        if report is not None:
            artifacts = [step.artifact for step in steps if step.stage == name]
            body["result"] = report(artifacts)
        text = str(body.get("result", {}).get("text", "")) if "result" in body else ""
        if error is not None:
            refused = _failed(error, console)
            return CommandResult(refused.exit_code, {**body, **refused.body}, text)
        return CommandResult(NEWLY_FAILED if failures else 0, body, text)

    return _with_signature(function, stage.__doc__, name)


def _command_function(name: str, console: Console) -> Callable[..., CommandResult]:
    command = load_command(name)
    options = own_options(name)

    def function(**values: Any) -> CommandResult:
        config = make_config(command.Config, passed_values(options, values), where="the command line")
        console.quiet = values["quiet"]
        context = _context(values, console)
        with checked_outputs(config, context) as checked:
            return _answered(command.run(checked, context))

    return _with_signature(function, command.__doc__, name)


def _answered(answer: Mapping[str, Any]) -> CommandResult:
    body = {key: value for key, value in answer.items() if key not in ("text", "exit_code", "after")}
    return CommandResult(int(answer.get("exit_code", 0)), body, str(answer.get("text", "")), answer.get("after"))


def _context(values: Mapping[str, Any], console: Console) -> Context:
    jobs = values.get("jobs")
    if jobs is not None and jobs < 1:
        raise ConfigError(f"--jobs {jobs}", "1 or more", "leave it out to use every core")
    seconds = values.get("case_seconds", 120.0)
    if not 0 <= seconds < 1e6:
        raise ConfigError(f"--case-seconds {seconds:g}", "seconds, 0 for no limit", "leave it out for 120 s")
    return Context(
        folder=values.get("workspace") or Path(),
        console=console,
        jobs=jobs or usable_cores(),
        device=values.get("device", "auto"),
        cohorts=[*(values.get("cohort") or ()), *(values.get("external") or ())],
        upstream=not values.get("no_upstream", False),
        retry_failed=values.get("retry_failed", False),
        case_seconds=seconds,
        share=_share(values.get("shard")),
        cluster=values.get("cluster") or "",
    )


def _share(text: str | None) -> Share | None:
    """``--shard 3/8``."""
    if text is None:
        return None
    number, slash, total = text.partition("/")
    if not (slash and number.isdecimal() and total.isdecimal() and 1 <= int(number) <= int(total) <= 9999):
        raise ConfigError(f"--shard {text}", "i/n, the i-th of n shares, such as 1/8", "count the shares from 1")
    return Share(int(number), int(total))


def _with_signature(
    function: Callable[..., CommandResult], document: str | None, name: str
) -> Callable[..., CommandResult]:
    """Give the function the parameters typer turns into options."""
    parameters = parameters_of(name)
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {p.name: p.annotation for p in parameters}
    function.__doc__ = document
    return function
