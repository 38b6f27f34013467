package nl.eckbroker.example;

/** What was refused, in one sentence that holds nothing of a person and no key. */
final class Refusal extends RuntimeException {
    private static final long serialVersionUID = 1L;

    Refusal(String sentence) {
        super(sentence);
    }
}
