// The little of the PostgreSQL protocol that is needed to share one backend.

/** Cuts a stream of bytes into messages. */
export class Frames {
  #bytes = Buffer.alloc(0);

  push(chunk) {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
  }

  /** The next message with its type, or null. */
  next() {
    if (this.#bytes.length < 5) return null;
    return this.#take(1 + this.#bytes.readInt32BE(1));
  }

  /** The first message of a connection, which has no type, or null. */
  startup() {
    if (this.#bytes.length < 8) return null;
    const code = this.#bytes.readInt32BE(4);
    const bytes = this.#take(this.#bytes.readInt32BE(0));
    return bytes && { code, parameters: settings(bytes) };
  }

  #take(length) {
    if (this.#bytes.length < length) return null;
    const message = this.#bytes.subarray(0, length);
    this.#bytes = this.#bytes.subarray(length);
    return message;
  }
}

/** What a backend says to a client that it trusts. */
export function greeting(number) {
  const parameters = {
    server_version: "17.5",
    server_encoding: "UTF8",
    client_encoding: "UTF8",
    DateStyle: "ISO, MDY",
    TimeZone: "UTC",
    integer_datetimes: "on",
    standard_conforming_strings: "on",
  };
  const key = Buffer.alloc(8);
  key.writeInt32BE(number);
  return Buffer.concat([
    message("R", Buffer.alloc(4)),
    ...Object.entries(parameters).map(([name, value]) => message("S", Buffer.from(`${name}\0${value}\0`))),
    message("K", key),
    message("Z", Buffer.from("I")),
  ]);
}

/** A simple query. */
export function query(sql) {
  return new Uint8Array(message("Q", Buffer.from(`${sql}\0`)));
}

/** The statement in a Query or Parse message, else null. */
export function statementText(type, bytes) {
  if (type === "Q") return text(bytes, 5)[0];
  if (type === "P") return text(bytes, text(bytes, 5)[1])[0];
  return null;
}

/** A Query or Parse message with another statement, which has no parameters. */
export function withText(type, bytes, sql) {
  if (type === "Q") return query(sql);
  const name = text(bytes, 5)[0];
  return message("P", Buffer.from(`${name}\0${sql}\0\0\0`));
}

/** The message with another name of the prepared statement in it, if there is one. */
export function renamed(type, bytes, rename) {
  // Where the name is: Parse: first; Bind: after the portal; Describe and Close: after an S.
  let at = 5;
  if (type === "B") at = text(bytes, 5)[1];
  else if ((type === "D" || type === "C") && bytes[5] === 0x53) at = 6;
  else if (type !== "P") return bytes;
  const [name, end] = text(bytes, at);
  return message(type, Buffer.concat([bytes.subarray(5, at), Buffer.from(`${rename(name)}\0`), bytes.subarray(end)]));
}

/** Transaction status of the last ReadyForQuery in an answer, else undefined. */
export function lastStatus(answer) {
  const bytes = Buffer.from(answer.buffer, answer.byteOffset, answer.length);
  let status;
  for (let at = 0; at + 5 <= bytes.length; at += 1 + bytes.readInt32BE(at + 1)) {
    if (bytes[at] === 0x5a) status = String.fromCharCode(bytes[at + 5]);
  }
  return status;
}

function message(type, payload) {
  const head = Buffer.alloc(5);
  head.write(type);
  head.writeInt32BE(payload.length + 4, 1);
  return Buffer.concat([head, payload]);
}

/** A string that ends with a zero, and where the next one begins. */
function text(bytes, at) {
  const end = bytes.indexOf(0, at);
  return [bytes.toString("utf8", at, end), end + 1];
}

/** Settings in a startup message: parameters of their own, and `-c name=value` in `options`. */
function settings(bytes) {
  const parts = bytes.toString("utf8", 8).split("\0");
  const found = [];
  for (let n = 0; n + 1 < parts.length && parts[n]; n += 2) {
    const [name, value] = [parts[n], parts[n + 1]];
    if (name === "options") {
      const options = value.matchAll(/(?:-c\s*|--)([\w.]+)=((?:\\.|\S)*)/g);
      for (const [, option, set] of options) found.push([option, set.replaceAll(/\\(.)/g, "$1")]);
    } else if (!["user", "database", "replication"].includes(name)) found.push([name, value]);
  }
  return found;
}
