"""Everything that sentry-sdk sends, of version 1 and of version 2, once each.

usage: everything.py DSN; prints as JSON the ids of the events and what was sent of the rest.
"""

import json
import sys

import sentry_sdk
from sentry_sdk.crons import capture_checkin
from sentry_sdk.envelope import Envelope, Item, PayloadRef

NOTES = b"the till was open\n" * 40


class PaymentError(Exception):
    pass


def charge(card):
    raise ValueError("card %s is not valid" % card)


def pay(card):
    try:
        charge(card)
    except ValueError as error:
        raise PaymentError("payment failed") from error


def new_scope():
    # Version 1 has no new_scope, version 2 warns of push_scope.
    return getattr(sentry_sdk, "new_scope", None) or sentry_sdk.push_scope


def exception_with_attachment():
    with new_scope()() as scope:
        scope.set_user({"id": "42", "email": "ada@example.com"})
        scope.set_tag("team", "payments")
        scope.add_attachment(bytes=NOTES, filename="notes.txt", content_type="text/plain")
        try:
            pay("4111")
        except PaymentError:
            return sentry_sdk.capture_exception()


def odd_numbers():
    with new_scope()() as scope:
        scope.set_extra("ratio", float("nan"))
        scope.set_extra("limit", float("inf"))
        return sentry_sdk.capture_message("odd numbers", level="info")


def session():
    if hasattr(sentry_sdk, "get_isolation_scope"):
        scope = sentry_sdk.get_isolation_scope()
        scope.start_session()
        scope.end_session()
    else:
        sentry_sdk.Hub.current.start_session()
        sentry_sdk.Hub.current.end_session()


def check_ins():
    config = {"schedule": {"type": "crontab", "value": "0 * * * *"}, "timezone": "Europe/Vienna"}
    check_in = capture_checkin(monitor_slug="nightly-stock", status="in_progress", monitor_config=config)
    capture_checkin(monitor_slug="nightly-stock", check_in_id=check_in, status="ok", duration=1.5)


def client():
    return sentry_sdk.get_client() if hasattr(sentry_sdk, "get_client") else sentry_sdk.Hub.current.client


def user_report(event_id):
    # The SDK has no call for it; applications send it through the SDK's transport.
    report = {"event_id": event_id, "name": "Ada", "email": "ada@example.com", "comments": "it broke"}
    item = Item(payload=PayloadRef(json=report), type="user_report")
    client().transport.capture_envelope(Envelope(headers={"event_id": event_id}, items=[item]))


def transaction():
    with sentry_sdk.start_transaction(op="task", name="count the stock"):
        with sentry_sdk.start_span(op="db"):
            pass


def logs():
    # Version 1 has none.
    if not hasattr(sentry_sdk, "logger"):
        return 0
    sentry_sdk.logger.info("the shop is open")
    sentry_sdk.logger.warning("stock is at {count}", count=3)
    return 2


def before_send(event, hint):
    is_private = (event.get("logentry") or {}).get("message") == "private" or event.get("message") == "private"
    return None if is_private else event


def main():
    options = {"enable_logs": True} if hasattr(sentry_sdk, "logger") else {}
    sentry_sdk.init(
        dsn=sys.argv[1],
        release="shop@1.2.3",
        environment="staging",
        server_name="till-1",
        traces_sample_rate=1.0,
        before_send=before_send,
        **options
    )
    exception = exception_with_attachment()
    message = sentry_sdk.capture_message("stock is low", level="warning")
    odd = odd_numbers()
    session()
    check_ins()
    user_report(exception)
    transaction()
    log_count = logs()
    for _ in range(3):
        sentry_sdk.capture_message("private")
    sentry_sdk.flush(timeout=20)
    # What was discarded is reported once the SDK has nothing else to send.
    sentry_sdk.flush(timeout=20)
    client().close(timeout=20)
    print(
        json.dumps(
            {
                "version": sentry_sdk.VERSION,
                "exception": exception,
                "message": message,
                "odd": odd,
                "attachment_bytes": len(NOTES),
                "logs": log_count,
                "discarded": 3,
            }
        )
    )


main()
