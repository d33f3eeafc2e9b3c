from .connect import Service as Service
from .connect import connect as connect
from .connector.client import RankingClient as RankingClient
from .connector.disk_cache import DiskCache as DiskCache
from .connector.errors import RerankError as RerankError
from .connector.rate_limit import RateLimit as RateLimit
from .connector.reranker import NVIDIARerank as NVIDIARerank
from .connector.score_cache import MemoryCache as MemoryCache

__version__: str
