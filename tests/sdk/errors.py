"""What a small shop would send with sentry-sdk: the same failed checkout for two users, and a message.

usage: errors.py DSN; prints the ids of the events as JSON.
"""

import json
import sys
import time

import sentry_sdk


class PaymentError(Exception):
    pass


def charge(card, amount):
    raise ValueError(f"card {card} is not valid")


def pay(card, amount):
    try:
        charge(card, amount)
    except ValueError as error:
        raise PaymentError("payment failed <b>badly</b>") from error


def check_out(user):
    with sentry_sdk.new_scope() as scope:
        scope.set_user(user)
        scope.set_tag("team", "payments")
        scope.set_context("cart", {"items": 3, "total": 99.5})
        scope.set_extra("order", {"number": 17})
        scope.add_breadcrumb(category="cart", message="added a book", level="info", data={"isbn": "978-3"})
        scope.add_breadcrumb(category="http", message="asked the bank", level="warning")
        try:
            pay("4111", 99.5)
        except PaymentError:
            return sentry_sdk.capture_exception()


def later_millisecond():
    """Returns in a later millisecond than it was called in: events of the same one have no order between them."""
    begun = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 == begun:
        pass


def main():
    sentry_sdk.init(
        dsn=sys.argv[1],
        release="shop@1.2.3",
        environment="staging",
        server_name="till-1",
        send_default_pii=False,
    )
    exceptions = []
    for user in [("42", "ada@example.com"), ("43", "grace@example.com"), ("42", "ada@example.com")]:
        later_millisecond()
        exceptions.append(check_out({"id": user[0], "email": user[1]}))
    with sentry_sdk.new_scope() as scope:
        scope.set_tag("shelf", "7")
        message = sentry_sdk.capture_message("stock is low", level="warning")
    sentry_sdk.flush(timeout=20)
    print(json.dumps({"exceptions": exceptions, "message": message}))


main()
