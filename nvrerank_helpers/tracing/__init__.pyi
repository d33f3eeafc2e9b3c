from .collect import Tracing as Tracing
from .spans import span_table as span_table
from .waterfall import draw_waterfall as draw_waterfall
