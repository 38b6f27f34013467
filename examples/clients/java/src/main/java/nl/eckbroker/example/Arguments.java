package nl.eckbroker.example;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** A command line: words, and options with a value. */
final class Arguments {
    static final String SCHEMAS = "../../../schemas/avro";
    static final String UNPRINTED = "nobody takes what is printed: the event does not count as read";

    final List<String> words = new ArrayList<>();
    private final Map<String, String> options = new HashMap<>();

    Arguments(String[] given, String usage, int wanted, List<String> known) {
        for (int i = 0; i < given.length; i++) {
            if (!given[i].startsWith("--")) {
                words.add(given[i]);
            } else if (known.contains(given[i].substring(2)) && i + 1 < given.length) {
                options.put(given[i].substring(2), given[++i]);
            } else {
                throw new Refusal("usage: " + usage);
            }
        }
        if (words.size() != wanted) {
            throw new Refusal("usage: " + usage);
        }
    }

    String option(String name, String standard) {
        return options.getOrDefault(name, standard);
    }

    long number(String name) {
        try {
            return Long.parseLong(option(name, "0"));
        } catch (NumberFormatException notOne) {
            throw new Refusal("--" + name + " must be a whole number");
        }
    }

    /** Those that are named, else those of the party's folder, else those of the broker's source tree. */
    Schemas schemas(Path bundle) {
        Path own = bundle.resolve("schemas");
        boolean there = Files.isRegularFile(own.resolve("envelope.v1.avsc"));
        return new Schemas(Path.of(option("schemas", there ? own.toString() : SCHEMAS)));
    }

    interface Program {
        void run() throws Exception;
    }

    /** Runs a program; what it refuses, and what Kafka refuses, ends it with one sentence and status 1. */
    static void run(Program program) {
        try {
            program.run();
        } catch (Refusal refusal) {
            end(refusal.getMessage());
        } catch (org.apache.kafka.common.KafkaException | java.util.concurrent.ExecutionException refused) {
            Throwable cause = refused;
            while (cause.getCause() != null) {
                cause = cause.getCause();
            }
            // What can not be parsed is quoted: in the login that is the password.
            boolean quotes = cause instanceof IllegalArgumentException;
            end("Kafka: " + cause.getClass().getSimpleName() + ": "
                    + (quotes ? "a setting in kafka/java.properties is damaged" : cause.getMessage()));
        } catch (Exception unexpected) {
            end(unexpected.getClass().getSimpleName()); // its message may hold what was read
        }
    }

    private static void end(String sentence) {
        System.out.flush();
        System.err.println("refused: " + sentence);
        System.exit(1);
    }
}
