"""The command line: flags in, validated settings out."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from jvsc.data.paths import user_path
from jvsc.errors import UserError
from jvsc.model.methods import METHODS
from jvsc.runs.allowed import OR_NONE, allowed_at
from jvsc.runs.config import Config, flatten, make_config, nearest_key
from jvsc.runs.model_files import LAYOUTS
from jvsc.runs.workdir import FREE, read_config

DEFAULT_CONFIG = "patches.py:inferred_threshold,demo"
MODEL_MODES = ("encode", "decode", "export")
# The modes that read a flag, of those that not all read.
FLAGS_OF_MODES: dict[str, tuple[str, ...]] = {
    "workdirs": ("compare",),
    "input": ("encode", "decode"),
    "output": MODEL_MODES,
    "seed": MODEL_MODES,
    "layout": ("export",),
}
MODES = ("train", "evaluate", "compare", *MODEL_MODES)
USAGE = """\
python -m jvsc.main [--config=FILE[:METHOD]] [--workdir=DIR]
                    [--mode=train|evaluate|compare|encode|decode|export]
                    [--workdirs=DIR,DIR] [--input=FILE] [--output=FILE]
                    [--seed=N] [--layout=jvsc|sae_lens] [--distributed]
                    [--config.KEY=VALUE ...]

  --config     settings, such as configs/patches.py:thresholded_laplacian; by
               default a short demonstration on photographs that jvsc finds in
               its installation
  --workdir    where the run lives: the same command continues it (default
               runs/demo)
  --mode       train (then evaluate), evaluate a run that has been trained, or
               compare several; encode data into sparse codes, decode codes, or
               export the trained model
  --workdirs   the runs to compare; the page goes to --workdir
  --input      encode: data, as .npy, .npz, .safetensors or a folder of them;
               decode: codes.npz
  --output     encode: codes.npz, scipy.sparse's; decode: X.npy; export: a new
               folder
  --layout     export: for jvsc.load (jvsc), or, of a sparse autoencoder, for
               SAELens (sae_lens)
  --seed       which of the run's seeds encodes, decodes or is exported (default
               the first)
  --distributed
               join the other processes of this run: by SLURM, GKE or a TPU pod,
               or by JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID
  --config.KEY one setting, such as --config.num_samples=20"""


class Command(NamedTuple):
    """A parsed command line.

    Attributes:
      mode: one of `MODES`, or "help".
      workdir: the run's directory.
      config: the run's settings.
      workdirs: the runs to compare.
      distributed: whether other processes train the run too.
      source: the file to encode or decode.
      target: what is written.
      seed: which seed of the run; None for the first that did not diverge.
      layout: one of `LAYOUTS`, of what is exported.
      given: keys of the settings of a training that the command line gave.
    """

    mode: str
    workdir: Path
    config: Config
    workdirs: tuple[Path, ...] = ()
    distributed: bool = False
    source: Path = Path()
    target: Path = Path()
    seed: int | None = None
    layout: str = LAYOUTS[0]
    given: tuple[str, ...] = ()


def bundled_config(name: str) -> str:
    """Path of a config file that ships with jvsc: in the wheel, or beside `src/` in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "configs"
    folder = installed if installed.is_dir() else package.parent.parent / "configs"
    return str(folder / name)


def parse(arguments: Sequence[str]) -> Command:
    """Parses a command line.

    Args:
      arguments: without the program's name.

    Raises:
      UserError: one line naming the flag or key, what was given and what is allowed.
    """
    arguments, unset = _without_none(arguments)
    values, config_flag = _parse_flags(arguments)
    workdir = user_path(values.workdir or "runs/demo", "workdir")
    if values.help:
        return Command("help", workdir, Config())
    _check_mode(values)
    if values.mode == "compare":
        return Command(
            "compare",
            user_path(values.workdir or "runs/comparison", "workdir"),
            Config(),
            _runs(values),
        )
    overrides = config_flags.get_override_values(config_flag) | dict.fromkeys(unset)
    if values.mode == "evaluate":
        return Command("evaluate", workdir, _evaluated_config(workdir, overrides))
    if values.mode in MODEL_MODES:
        return _model_command(values, overrides)
    if not values.workdir and any(_names_config(argument) for argument in arguments):
        raise UserError("--workdir is missing; give a directory for the run, such as runs/first")
    settings: ConfigDict = values.config
    if "method" in overrides:
        file = config_flags.get_config_filename(config_flag)
        _check_method_of_file(str(settings.method), file)
    with settings.ignore_type():
        settings.update_from_flattened_dict(dict.fromkeys(unset))
    # One follows from the other: the one that was asked for replaces the config file's.
    for asked, replaced in (("sparsity", "threshold"), ("threshold", "sparsity")):
        if asked in overrides and replaced not in overrides:
            with settings.ignore_type():
                settings[replaced] = None
    config = make_config(settings.to_dict())
    return Command("train", workdir, config, distributed=values.distributed, given=(*overrides,))


def _check_mode(values: flags.FlagValues) -> None:
    """Refuses flags that a mode does not read.

    Raises:
      UserError: naming one.
    """
    for name, modes in FLAGS_OF_MODES.items():
        if values[name].present and values.mode not in modes:
            remedy = "leave it out"
            if name == "seed" and values.mode == "train":
                remedy = f"give --config.seeds='({values.seed},)'"
            raise UserError(f"--{name} does not apply to --mode={values.mode}; {remedy}")


def _check_method_of_file(method: str, file: str) -> None:
    """Refuses another method with the settings that a config file has chosen for its own.

    Raises:
      UserError: if the file's settings are those of a method.
    """
    path, _, settings = file.partition(":")
    chosen_by_method = "experiment_config(" in Path(path).read_text(encoding="utf-8")
    if method not in METHODS or not chosen_by_method:
        return
    own = str(_parse_flags([f"--config={file}"])[0].config.method)
    if method != own:
        size = settings.partition(",")[2]
        raise UserError(
            f"--config.method={method} would take the settings of {own}; give "
            f"--config={path}:{method}{',' if size else ''}{size}"
        )


def _model_command(values: flags.FlagValues, overrides: dict[str, Any]) -> Command:
    """The command for a trained model, whose settings are stored with it."""
    needed = ("workdir", "output") if values.mode == "export" else ("workdir", "input", "output")
    for name in needed:
        if not values[name].value:
            raise UserError(f"--{name} is missing; --mode={values.mode} needs it (see --help)")
    workdir = user_path(values.workdir, "workdir")
    config = _evaluated_config(workdir, overrides)
    source = user_path(values.input or "", "input")
    target = user_path(values.output or "", "output")
    model = {"seed": values.seed, "layout": values.layout}
    return Command(values.mode, workdir, config, source=source, target=target, **model)


def _runs(values: flags.FlagValues) -> tuple[Path, ...]:
    """The runs to compare; the last parts of their paths name them."""
    runs = tuple(user_path(part, "workdirs") for part in values.workdirs if part)
    if not runs:
        raise UserError("--workdirs is missing; give evaluated runs, such as runs/a,runs/b")
    if len({run.name for run in runs}) != len(runs):
        raise UserError("--workdirs: two runs end in the same name; rename one of them")
    return runs


def _names_config(argument: str) -> bool:
    return argument.lstrip("-").split("=")[0] == "config"


def _parse_flags(arguments: Sequence[str]) -> tuple[flags.FlagValues, Any]:
    values = flags.FlagValues()
    arguments = [_with_bundled_config(argument) for argument in _config_first(arguments)]
    # First, since the flag library reads the default file's keys as it is defined.
    _check_arguments(arguments)
    line = ["jvsc", *arguments]
    config_flags.DEFINE_config_file(
        "config", bundled_config(DEFAULT_CONFIG), flag_values=values, sys_argv=line
    )
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    flags.DEFINE_list("workdirs", [], "", flag_values=values)
    flags.DEFINE_string("input", None, "", flag_values=values)
    flags.DEFINE_string("output", None, "", flag_values=values)
    flags.DEFINE_integer("seed", None, "", flag_values=values)
    flags.DEFINE_enum("mode", "train", MODES, "", flag_values=values)
    flags.DEFINE_enum("layout", LAYOUTS[0], LAYOUTS, "", flag_values=values)
    flags.DEFINE_bool("distributed", False, "", flag_values=values)
    flags.DEFINE_bool("help", False, "", short_name="h", flag_values=values)
    try:
        rest = values(line)
    except flags.UnrecognizedFlagError as error:
        raise UserError(f"unknown flag --{error.flagname}; --help lists the flags") from None
    except Exception as error:  # a config file is Python and may raise anything
        raise UserError(_reason(error)) from None
    if len(rest) > 1:
        raise UserError(f"unknown argument {rest[1]!r}; settings are given as --config.KEY=VALUE")
    return values, values["config"]


def _without_none(arguments: Sequence[str]) -> tuple[list[str], set[str]]:
    """The arguments without --config.KEY=None, and the keys that are to be None, if they may be.

    The flag library reads a number where a config file has one. Of a key that is given several
    times the last one counts.
    """
    pairs = (argument.lstrip("-").partition("=") for argument in arguments)
    last = {name: value for name, _, value in pairs}
    fields = {name: tuple(name.removeprefix("config.").split(".")) for name in last}
    optional = {name for name in fields if allowed_at(Config, fields[name]).endswith(OR_NONE)}
    rest: dict[Any, str] = {}
    for place, argument in enumerate(arguments):
        name, given, value = argument.lstrip("-").partition("=")
        if name in optional and "None" in (last[name], value):
            continue
        # The flag library takes each flag once.
        rest[name if given and name.startswith("config.") else place] = argument
    unset = {".".join(fields[name]) for name in optional if last[name] == "None"}
    return list(rest.values()), unset


def _config_first(arguments: Sequence[str]) -> list[str]:
    """The same flags, that of the config file before those that change its settings."""
    first: list[str] = []
    rest: list[str] = []
    values = iter(arguments)
    for argument in values:
        place = first if _names_config(argument) else rest
        place.append(argument)
        if place is first and "=" not in argument:
            place.extend([value] if (value := next(values, None)) is not None else [])
    return first + rest


def _with_bundled_config(argument: str) -> str:
    """The argument, with configs/NAME.py as jvsc ships it where the working directory has none."""
    flag, _, value = argument.partition("=")
    file, colon, settings = value.partition(":")
    if not _names_config(argument) or Path(file).parent != Path("configs") or Path(file).is_file():
        return argument
    shipped = Path(bundled_config(Path(file).name))
    return f"{flag}={shipped}{colon}{settings}" if shipped.is_file() else argument


def _check_arguments(arguments: Sequence[str]) -> None:
    """Clearer errors than the flag library's for a wrong config file or key."""
    known = flatten(Config().model_dump())
    for argument in arguments:
        name, _, value = argument.lstrip("-").partition("=")
        key = name.removeprefix("config.")
        if key != name and key not in known:
            raise UserError(f"unknown key {key!r}; {nearest_key(key)}")
        if name == "config" and value and not Path(value.split(":")[0]).is_file():
            shipped = sorted(Path(bundled_config("")).glob("*.py"))
            names = ", ".join(f"configs/{file.name}" for file in shipped)
            raise UserError(f"--config={value}: there is no such file; jvsc brings {names}")


# What the flag library says of a number, and what is to be given.
_PLAIN_WORDS = {
    r"invalid literal for int\(\) with base 10: (.*)": r"\1 is no whole number; give one",
    r"could not convert string to float: (.*)": r"\1 is no number; give one",
}


def _reason(error: BaseException) -> str:
    """The user's mistake that an error grew from, or the error's own words, in one line."""
    mistake, cause = error, error
    while cause := cause.__cause__ or cause.__context__:
        if isinstance(cause, UserError):
            mistake = cause
    words = " ".join(str(mistake).split())
    for theirs, ours in _PLAIN_WORDS.items():
        words = re.sub(theirs, ours, words)
    return words


def _evaluated_config(workdir: Path, overrides: dict[str, Any]) -> Config:
    """The run's own settings, with what an evaluation may change."""
    settings = read_config(workdir).model_dump()
    for key, value in overrides.items():
        section, _, name = key.partition(".")
        if section not in FREE and key not in FREE:
            free = ", ".join(name if "." in name else f"{name}.*" for name in FREE)
            raise UserError(f"--config.{key} cannot change in an evaluation; only {free} can")
        settings[section][name] = value
    return make_config(settings)
