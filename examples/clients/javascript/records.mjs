// JSON lines to Avro records and back: dates and times are ISO 8601 in JSON, days and milliseconds in Avro.

import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Refusal } from './refusal.mjs';
import { schemaOf } from './wire.mjs';

const EVENT = [
  'event_id', 'family', 'kind', 'school', 'sector', 'school_year', 'created', 'sender', 'receiver', 'correlation',
  'agreement', 'subject', 'body',
];
const DAY_MS = 86_400_000;

/** The schemas that a program was made for. */
export class Schemas {
  #folder;
  #families = new Map();

  /** Those that are named, else those of the party's folder, else those of the broker's source tree. */
  constructor(named, bundle) {
    const own = join(bundle, 'schemas');
    const ours = fileURLToPath(new URL('../../../schemas/avro', import.meta.url));
    this.#folder = named ?? (existsSync(join(own, 'envelope.v1.avsc')) ? own : ours);
    this.envelope = this.#file('envelope');
    this.subject = this.#file('subject');
    this.status = this.#file('status');
  }

  family(name) {
    if (!this.#families.has(name)) {
      const schema = this.#file(name);
      if (schema.document.family !== name) throw new Refusal(`${name} is not a family`);
      this.#families.set(name, schema);
    }
    return this.#families.get(name);
  }

  #file(name) {
    const path = join(this.#folder, `${name}.v1.avsc`);
    if (!/^[a-z]+$/.test(name) || !existsSync(path)) {
      throw new Refusal(`there is no schema ${name}.v1.avsc in ${this.#folder}; name its folder with --schemas`);
    }
    return schemaOf(readFileSync(path, 'utf8'));
  }
}

/** The topic `schemas` by fingerprint; each must have the fingerprint that it goes by. */
export function publishedSchemas(records) {
  const found = new Map();
  for (const [fingerprint, json] of records) {
    const schema = schemaOf(json.toString('utf8'));
    if (schema.fingerprint.toString('hex') !== fingerprint) {
      throw new Refusal(`the schema ${fingerprint} on the topic schemas has another fingerprint`);
    }
    found.set(fingerprint, schema);
  }
  return found;
}

/** What `broker send` takes as one line, as the three records that are sent; `envelope` without its two parts. */
export function eventOf(line, party, family, schemas) {
  object(line, 'the event');
  refuseUnknown(line, EVENT, 'the event');
  const schema = schemas.family(family);
  const kinds = Object.keys(schema.document.kinds);
  if (!kinds.includes(line.kind)) throw new Refusal(`kind is not one of ${family}: ${kinds.join(', ')}`);
  if ((line.sender ?? party) !== party) {
    throw new Refusal("sender is another party: an event is sent in the party's own name only");
  }
  const created = line.created ?? new Date().toISOString();
  const envelope = {
    event_id: line.event_id ?? randomUUID(), family, kind: line.kind, body_schema: schema.fingerprint,
    school: line.school ?? null, sector: line.sector ?? null, school_year: line.school_year ?? schoolYear(created),
    sender: party, receiver: line.receiver ?? null, created, correlation: line.correlation ?? null,
    agreement: line.agreement ?? null, subject: Buffer.alloc(0), body: Buffer.alloc(0),
  };
  const subject = { kind: 'NONE', ...object(line.subject ?? {}, 'subject') };
  // A new object, unless the line names one.
  const made = schema.document.object ? { [schema.document.object]: randomUUID() } : {};
  const body = { ...made, ...object(line.body ?? {}, 'body') };
  return {
    envelope: toAvro(schemas.envelope.document, envelope, 'envelope'),
    subject: toAvro(schemas.subject.document, subject, 'subject'),
    body: toAvro(schema.document, body, 'body'),
  };
}

/** The school year of a time as it is written; it begins on 1 August. */
function schoolYear(created) {
  const [year, month] = String(created).split('-', 2).map(Number);
  const first = month >= 8 ? year : year - 1;
  return `${first}-${first + 1}`;
}

function toAvro(node, value, where, names = new Map()) {
  const type = named(node, names);
  const kind = type.type ?? type;
  if (Array.isArray(type)) return value === null ? null : toAvro(present(type), value, where, names);
  switch (kind) {
    case 'record':
      return recordToAvro(type, value, where, names);
    case 'array':
      require(Array.isArray(value), where, 'a list');
      return value.map((item, i) => toAvro(type.items, item, `${where}[${i}]`, names));
    case 'enum':
      require(type.symbols.includes(value), where, `one of ${type.symbols.join(', ')}`);
      return value;
    case 'string':
      require(typeof value === 'string', where, 'a text');
      return value;
    case 'bytes':
    case 'fixed':
      require(Buffer.isBuffer(value), where, 'bytes');
      return value;
    case 'boolean':
      require(typeof value === 'boolean', where, 'true or false');
      return value;
    case 'int':
      if (type.logicalType === 'date') return days(value, where);
      require(Number.isInteger(value) && Math.abs(value) < 2 ** 31, where, 'a whole number of 32 bits');
      return value;
    case 'long':
      if (type.logicalType === 'timestamp-millis') return milliseconds(value, where);
      require(Number.isSafeInteger(value), where, 'a whole number');
      return value;
    default:
      throw new Refusal(`${where} has the Avro type ${kind}, which no family has`);
  }
}

function recordToAvro(type, value, where, names) {
  object(value, where);
  refuseUnknown(value, type.fields.map(({ name }) => name), where);
  const out = {};
  for (const field of type.fields) {
    const place = `${where}.${field.name}`;
    const given = Object.hasOwn(value, field.name) ? value[field.name] : field.default;
    require(given !== undefined, place, 'in it');
    out[field.name] = toAvro(field.type, given, place, names);
  }
  return out;
}

/** A record, or a value in one, as JSON; bytes have no place in it. */
export function toJson(node, value, names = new Map()) {
  const type = named(node, names);
  const kind = type.type ?? type;
  if (Array.isArray(type)) {
    const branch = present(type);
    return value === null ? named(branch, names) && null : toJson(branch, value, names);
  }
  switch (kind) {
    case 'record': {
      const out = {};
      for (const field of type.fields) {
        const inner = named(field.type, names);
        if (!['bytes', 'fixed'].includes(inner.type ?? inner)) out[field.name] = toJson(inner, value[field.name], names);
      }
      return out;
    }
    case 'array':
      named(type.items, names);
      return value.map((item) => toJson(type.items, item, names));
    case 'int':
      return type.logicalType === 'date' ? new Date(value * DAY_MS).toISOString().slice(0, 10) : value;
    case 'long':
      return type.logicalType === 'timestamp-millis' ? new Date(value).toISOString() : value;
    default:
      return value;
  }
}

/** What a node of a schema is; a name stands for what was defined under it, all that is in a schema from the start. */
function named(node, names) {
  if (names.size === 0) collect(node, names);
  return typeof node === 'string' && names.has(node) ? names.get(node) : node;
}

function collect(node, names, namespace = '') {
  if (Array.isArray(node)) node.forEach((branch) => collect(branch, names, namespace));
  if (node === null || typeof node !== 'object' || Array.isArray(node)) return;
  const inside = node.namespace ?? namespace;
  if (['record', 'enum', 'fixed'].includes(node.type)) {
    names.set(node.name, node);
    names.set(`${inside}.${node.name}`, node);
  }
  (node.fields ?? []).forEach((field) => collect(field.type, names, inside));
  collect(node.items ?? null, names, inside);
  if (typeof node.type === 'object') collect(node.type, names, inside);
}

function present(union) {
  return union.find((branch) => branch !== 'null');
}

function days(value, where) {
  const ms = typeof value === 'string' && /^\d{4}-\d{2}-\d{2}$/.test(value) ? Date.parse(value) : NaN;
  const same = !Number.isNaN(ms) && new Date(ms).toISOString().startsWith(value);
  require(same, where, 'a date such as 2026-11-24');
  return ms / DAY_MS;
}

function milliseconds(value, where) {
  const form = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2})$/;
  const ms = typeof value === 'string' && form.test(value) ? Date.parse(value) : NaN;
  require(!Number.isNaN(ms), where, 'a time with its zone, such as 2026-11-24T09:30:00Z');
  return ms;
}

function object(value, where) {
  require(value !== null && typeof value === 'object' && !Array.isArray(value), where, 'an object');
  return value;
}

function require(holds, where, what) {
  if (!holds) throw new Refusal(`${where} must be there and be ${what}`);
}

function refuseUnknown(value, known, where) {
  const unknown = Object.keys(value).find((name) => !known.includes(name));
  if (unknown !== undefined) {
    throw new Refusal(`${where} has no field ${unknown}; it has: ${[...known].sort().join(', ')}`);
  }
}
