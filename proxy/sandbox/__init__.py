"""PRETEND: the three gateways, simulated: real SSE, real MP4s, faults on demand."""

from proxy.sandbox.bill import Bill, Line
from proxy.sandbox.directives import DIRECTIVES, markdown
from proxy.sandbox.orders import Product, documented_products
from proxy.sandbox.render import stamped
from proxy.sandbox.sandbox import NAMES, PORT, Sandbox, describe, serve

__all__ = [
    "DIRECTIVES",
    "NAMES",
    "PORT",
    "Bill",
    "Line",
    "Product",
    "Sandbox",
    "describe",
    "documented_products",
    "markdown",
    "serve",
    "stamped",
]
