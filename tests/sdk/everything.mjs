// Everything that @sentry/node sends, of version 8 and of later ones, once each.
//
// usage: SDK_DIRECTORY=DIR everything.mjs DSN; prints as JSON the ids of the events and what was sent of the rest.

import { createRequire } from "node:module";
import { join } from "node:path";

// The package lies in a cache directory, where an import by name does not look.
const require = createRequire(join(process.env.SDK_DIRECTORY, "package.json"));
const Sentry = require("@sentry/node");

const NOTES = "the till was open\n".repeat(40);

class PaymentError extends Error {
  constructor(message, options) {
    super(message, options);
    this.name = "PaymentError";
  }
}

function charge(card) {
  throw new TypeError(`card ${card} is not valid`);
}

function pay(card) {
  try {
    charge(card);
  } catch (error) {
    throw new PaymentError("payment failed", { cause: error });
  }
}

function exceptionWithAttachment() {
  return Sentry.withScope((scope) => {
    scope.setUser({ id: "42", email: "ada@example.com" });
    scope.setTag("team", "payments");
    scope.addAttachment({ filename: "notes.txt", data: NOTES, contentType: "text/plain" });
    try {
      pay("4111");
    } catch (error) {
      return Sentry.captureException(error);
    }
  });
}

function oddNumbers() {
  return Sentry.withScope((scope) => {
    scope.setExtra("ratio", Number.NaN);
    scope.setExtra("limit", Number.POSITIVE_INFINITY);
    return Sentry.captureMessage("odd numbers", "info");
  });
}

function checkIns() {
  const monitor = { schedule: { type: "crontab", value: "0 * * * *" }, timezone: "Europe/Vienna" };
  const checkInId = Sentry.captureCheckIn({ monitorSlug: "nightly-stock", status: "in_progress" }, monitor);
  Sentry.captureCheckIn({ monitorSlug: "nightly-stock", checkInId, status: "ok", duration: 1.5 });
}

function logs() {
  // Version 8 has none.
  if (Sentry.logger === undefined) {
    return 0;
  }
  Sentry.logger.info("the shop is open");
  Sentry.logger.warn("stock is low", { count: 3 });
  return 2;
}

Sentry.init({
  dsn: process.argv[2],
  release: "shop@1.2.3",
  environment: "staging",
  serverName: "till-2",
  tracesSampleRate: 1,
  enableLogs: true,
  beforeSend: (event) => (event.message?.startsWith("private") ? null : event),
});

const exception = exceptionWithAttachment();
const message = Sentry.captureMessage("stock is low", "warning");
const odd = oddNumbers();
Sentry.startSession();
Sentry.endSession();
checkIns();
const feedback = Sentry.captureFeedback({
  message: "it broke", name: "Ada", email: "ada@example.com", associatedEventId: exception,
});
Sentry.startSpan({ name: "count the stock", op: "task" }, () => Sentry.startSpan({ name: "SELECT", op: "db" }, () => {}));
const logCount = logs();
for (let count = 0; count < 3; count += 1) {
  // The SDK drops what equals the message before it.
  Sentry.captureMessage(`private ${count}`);
}
if (!(await Sentry.flush(20_000))) {
  throw new Error("the events were not sent in time");
}
console.log(JSON.stringify({
  version: Sentry.SDK_VERSION, exception, message, odd, feedback, attachment_bytes: NOTES.length, logs: logCount, discarded: 3,
}));
// The end of the event loop, not process.exit: that is when the SDK reports what was discarded.
