"""What raven, the Python SDK before sentry-sdk, sends: single events to the store endpoint, deflated, floats as Python writes them.

usage: legacy.py DSN; prints the ids of the events as JSON.
"""

import json
import sys
import warnings

import raven
from raven.transport.http import HTTPTransport


class PaymentError(Exception):
    pass


def charge(card):
    raise ValueError("card %s is not valid" % card)


def pay(card):
    try:
        charge(card)
    except ValueError as error:
        raise PaymentError("payment failed") from error


def main():
    warnings.simplefilter("ignore")
    # Legacy DSNs carry a secret, which raven insists on sending along.
    dsn = sys.argv[1].replace("@", ":secret@", 1)
    # The transport that waits for its answer.
    client = raven.Client(dsn, transport=HTTPTransport, release="1.2.3", environment="staging", name="till-9")
    client.user_context({"id": "42", "email": "ada@example.com"})
    client.captureBreadcrumb(category="cart", message="added a book", level="info")
    try:
        pay("4111")
    except PaymentError:
        exception = client.captureException(tags={"team": "payments"})
    message = client.captureMessage("stock is low", level="warning")
    # What is in `data` goes out as json.dumps writes it: bare NaN, Infinity and -Infinity.
    numbers = {"ratio": float("nan"), "most": float("inf"), "least": float("-inf"), "count": 3}
    odd = client.captureMessage("odd numbers", data={"contexts": {"odd": numbers}})
    print(
        json.dumps(
            {"version": raven.VERSION, "failed": client.state.did_fail(), "exception": exception, "message": message, "odd": odd}
        )
    )


main()
