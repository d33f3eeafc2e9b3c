from .encoder import WINDOW as WINDOW
from .encoder import EncodedText as EncodedText
from .encoder import TextEncoder as TextEncoder
from .encoder import UnencodedText as UnencodedText
from .weights import count_cores as count_cores
from .weights import find_weights as find_weights
from .weights import load_tokenizer as load_tokenizer
