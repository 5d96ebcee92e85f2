// What a small shop would send with @sentry/node: the same failed checkout for two users, and a message.
//
// usage: SDK_DIRECTORY=DIR errors.mjs DSN; prints the ids of the events as JSON.

import { createRequire } from "node:module";
import { join } from "node:path";

// The package lies in a cache directory, where an import by name does not look.
const require = createRequire(join(process.env.SDK_DIRECTORY, "package.json"));
const Sentry = require("@sentry/node");

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
    throw new PaymentError("payment failed <b>badly</b>", { cause: error });
  }
}

function checkOut(user, number) {
  return Sentry.withIsolationScope((scope) => {
    scope.setUser(user);
    scope.setTag("team", "payments");
    scope.setContext("cart", { items: 3, total: 99.5 });
    Sentry.addBreadcrumb({ category: "cart", message: "added a book", level: "info" });
    Sentry.addBreadcrumb({ category: "http", message: "asked the bank", level: "warning" });
    try {
      pay(`411${number}`); // The SDK drops an error that equals the one before it.
    } catch (error) {
      return Sentry.captureException(error);
    }
  });
}

Sentry.init({ dsn: process.argv[2], release: "shop@1.2.3", environment: "staging", serverName: "till-2" });

const exceptions = [{ id: "42" }, { id: "43" }, { id: "42" }].map(checkOut);
const message = Sentry.withScope((scope) => {
  scope.setTag("shelf", "7");
  return Sentry.captureMessage("stock is low", "warning");
});
if (!(await Sentry.flush(20_000))) {
  throw new Error("the events were not sent in time");
}
console.log(JSON.stringify({ exceptions, message }));
