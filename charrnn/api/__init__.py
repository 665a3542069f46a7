"""charrnn as functions: load, train, sample, evaluate, score, ... The command line calls these.

Parameters that several of them have:
    model: a loaded model or its path; None: the one that `load()` returns.
    corpus: a path or several: files, folders, .gz files, or "-" for standard input.
    text: how the corpus is read; None: as the model's own corpus was, but in UTF-8.
    on_unknown: whether a character that the model has never seen is an error or is skipped.
    unknown_bits: the surprise of such a character where lines are scored.
    threads: how many to use; None: all CPUs. Or the ranks that share the work, each with its own.
    before_waiting: called before each wait for input: flush what you wrote there.

Errors that several of them raise, and their docstrings do not repeat:
    CheckpointError: a model cannot be loaded.
    ConfigError: a setting is out of range.
    CorpusError: a file cannot be read, or is not text.
    VocabularyError: a text holds a character that the model has never seen.

Texts are converted to the normal form of the model's corpus. Modules that need compiled kernels are
imported where they are used, since a short sample needs none. This room may import all but cli and serving.
"""

from typing import TYPE_CHECKING

from charrnn.api.about import versions as versions  # "as": this is where callers take it from
from charrnn.api.drawing import curves as curves
from charrnn.api.drawing import heat as heat
from charrnn.api.exporting import onnx_model as onnx_model
from charrnn.api.exporting import page as page
from charrnn.api.exporting import torch_script as torch_script
from charrnn.api.learning import train as train
from charrnn.api.learning import training_files as training_files
from charrnn.api.looking import diagnose as diagnose
from charrnn.api.looking import diagnose_run as diagnose_run
from charrnn.api.looking import looks as looks
from charrnn.api.looking import rank_units as rank_units
from charrnn.api.looking import watch_unit as watch_unit
from charrnn.api.measuring import evaluate as evaluate
from charrnn.api.models import by_label as by_label
from charrnn.api.models import given as given
from charrnn.api.models import holding as holding
from charrnn.api.models import load as load
from charrnn.api.models import looking_back as looking_back
from charrnn.api.models import model_path as model_path
from charrnn.api.reading import classified as classified
from charrnn.api.reading import restored as restored
from charrnn.api.reading import rewritten as rewritten
from charrnn.api.reading import tagged as tagged
from charrnn.api.scoring import classify as classify
from charrnn.api.scoring import compress as compress
from charrnn.api.scoring import decompress as decompress
from charrnn.api.scoring import score as score
from charrnn.api.scoring import score_lines as score_lines
from charrnn.api.scoring import surprises as surprises
from charrnn.api.searching import enumerate_lines as enumerate_lines
from charrnn.api.searching import fill as fill
from charrnn.api.searching import next_characters as next_characters
from charrnn.api.searching import offers as offers
from charrnn.api.writing import Texts as Texts
from charrnn.api.writing import sample as sample
from charrnn.api.writing import sample_each as sample_each
from charrnn.generation.writing import Prompt as Prompt
from charrnn.generation.writing import Written as Written
from charrnn.inference.mixture import Blend as Blend
from charrnn.inference.mixture import blend as blend

if TYPE_CHECKING:
    from charrnn.search.suggestions import Offer as Offer
    from charrnn.search.suggestions import Offers as Offers
