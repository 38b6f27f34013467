/** What was refused, in one sentence that holds nothing of a person and no key. */
export class Refusal extends Error {}

/** Runs a program; what it refuses, and what Kafka refuses, ends it with one sentence and status 1. */
export async function run(program) {
  let failed = '';
  try {
    await program();
  } catch (error) {
    // Another error's message may hold what was read: its name is enough.
    const kafka = error?.name?.startsWith('KafkaJS');
    failed = error instanceof Refusal ? error.message : kafka ? `Kafka: ${error.message}` : error?.name ?? 'Error';
  }
  if (failed) {
    process.stderr.write(`refused: ${failed}\n`);
    process.exitCode = 1;
  }
  // What the Kafka client still has open must not keep the program; first, what was printed goes out.
  process.stdout.write('', () => process.exit());
}

/** Prints a line; refuses if nobody takes it. */
export async function print(line) {
  const failed = await new Promise((resolve) => process.stdout.write(`${line}\n`, resolve));
  if (failed) throw new Refusal('nobody takes what is printed: the event does not count as read');
}

process.stdout.on('error', () => {}); // `print` tells; without a listener Node would end with a stack trace

/** Takes a command line apart into words and options with a value. */
export function parse(given, usage, wanted, known) {
  const words = [];
  const options = {};
  for (let i = 0; i < given.length; i++) {
    const name = given[i].slice(2);
    if (!given[i].startsWith('--')) {
      words.push(given[i]);
    } else if (known.includes(name) && i + 1 < given.length) {
      options[name] = given[++i];
    } else {
      throw new Refusal(`usage: ${usage}`);
    }
  }
  if (words.length !== wanted) throw new Refusal(`usage: ${usage}`);
  return { words, options };
}

export function number(options, name) {
  const text = options[name] ?? '0';
  if (!/^[0-9]{1,9}$/.test(text)) throw new Refusal(`--${name} must be a whole number`);
  return Number(text);
}
