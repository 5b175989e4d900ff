// Makes the golden bytes of herdstream.v1 with protobufjs, an implementation that shares no code with
// the server and the SDK, from the values in cases.json.
//
//   npm run golden            writes golden/<Message>.<case>.bin
//   npm run golden -- --check fails if a file differs from what would be written
//
// Bytes in use never change: a changed file is a broken contract. Add cases, do not edit them.
import { existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import protobuf from "protobufjs";

const here = dirname(fileURLToPath(import.meta.url));
const check = process.argv.includes("--check");

const root = new protobuf.Root();
root.resolvePath = (_origin, target) => join(here, "..", target);
root.loadSync(["types", "ingest", "query", "admin"].map((name) => `herdstream/v1/${name}.proto`), { keepCase: true });
root.resolveAll();

const cases = JSON.parse(readFileSync(join(here, "cases.json"), "utf8"));
const faults = [];
const wanted = new Set();
for (const [message, values] of Object.entries(cases)) {
  const type = root.lookupType(`herdstream.v1.${message}`);
  for (const [name, value] of Object.entries(values)) {
    const where = `${message}.${name}`;
    inspect(type, value, where);
    const bytes = Buffer.from(type.encode(type.fromObject(value)).finish());
    const file = `${where}.bin`;
    wanted.add(file);
    const path = join(here, file);
    if (existsSync(path) && readFileSync(path).equals(bytes)) continue;
    if (check) faults.push(`${file} is missing or differs from what protobufjs makes of its case`);
    else writeFileSync(path, bytes);
  }
}
for (const file of readdirSync(here).filter((file) => file.endsWith(".bin"))) {
  if (!wanted.has(file)) faults.push(`${file} belongs to no case`);
}
if (faults.length > 0) {
  console.error(faults.join("\n"));
  process.exit(1);
}
console.log(`${wanted.size} golden files of ${Object.keys(cases).length} messages are as they should be`);

// protobufjs drops what it does not know, and writes a default that is spelled out where proto3 has no
// presence; both would make bytes that no other implementation makes.
function inspect(type, value, where) {
  for (const [name, part] of Object.entries(value)) {
    const field = type.fields[name];
    if (!field) throw new Error(`${where}: ${type.name} has no field ${name}`);
    const kind = field.resolvedType;
    const parts = field.repeated ? part : [part];
    if (kind instanceof protobuf.Type) parts.forEach((part) => inspect(kind, part, `${where}.${name}`));
    else if (kind instanceof protobuf.Enum && parts.some((part) => !(part in kind.values))) {
      throw new Error(`${where}: ${kind.name} has no value ${part}`);
    } else if (!field.repeated && !field.partOf && [0, "0", "", false].includes(part)) {
      throw new Error(`${where}.${name}: leave defaults out of fields without presence`);
    }
  }
}
