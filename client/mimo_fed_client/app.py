"""Flower's ClientApp around the same agent: for the stock `flower-supernode`, as a compatibility test.

The stock node starts a process for every message and runs the app that the server sent. A device must do
neither: the product uses `node.EmbeddedNode`. That this path works shows that nothing but Flower's public
messages is needed.
"""

from __future__ import annotations

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from mimo_fed.flower import pack, unpack
from mimo_fed_client.agent import stock_handler

app = ClientApp()


@app.query()
def query(message: Message, context: Context) -> Message:
    """Answer one message with the agent that the node's configuration names."""
    stage, payload = unpack(message.content)
    return Message(pack(stage, stock_handler(context.node_config)(stage, payload)), reply_to=message)
