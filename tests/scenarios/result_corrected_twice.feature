Feature: A result that is corrected twice
  A test was scored wrong, and then wrong again. Each correction replaces the one before; an old one that comes late is not
  believed (R19). Results go to the school's administration and its portal; the shop never sees one (R10).

  Background:
    Given it is 24 November 2026
    And Emma is a pupil of De Regenboog

  @R19
  Scenario: The last correction counts
    When publisher Delta sends a result of Emma
      | grade | 6.1 |
    Then only the SIS and the portal get a result of Emma
    When publisher Delta sends a corrected result of Emma
      | grade  | 6.8          |
      | reason | scored again |
    Then only the SIS and the portal get a corrected result of Emma
    When publisher Delta sends a corrected result of Emma
      | grade  | 7.2         |
      | reason | entry error |
    Then only the SIS and the portal get a corrected result of Emma
    And it tells the SIS and the portal
      | grade    | 7.2         |
      | reason   | entry error |
      | revision | 3           |
    When publisher Delta sends a corrected result of Emma
      | grade    | 6.8 |
      | revision | 2   |
    Then publisher Delta is told "object.stale"
    And publisher Delta is told so in the words "The revision is not higher than the one that you sent of this object before."
    And nobody gets anything

  Scenario: The school says that it booked the result
    Given publisher Delta sent a result of Emma
    When the SIS sends a result receipt at De Regenboog to publisher Delta
      | receipt | booked |
    Then only publisher Delta gets a result receipt
    And it tells publisher Delta
      | receipt | booked |

  Scenario: Or that it can not book it, and why; of whom the result's number says
    Given publisher Delta sent a result of Emma
    When the SIS sends a result receipt at De Regenboog to publisher Delta
      | receipt | rejected |
      | reason  | scale    |
    Then only publisher Delta gets a result receipt
    And it tells publisher Delta
      | receipt | rejected |
      | reason  | scale    |
    When the SIS sends a result receipt of Emma to publisher Delta
    Then the SIS is told "subject.not_allowed"
    And nobody gets anything

  @R10
  Scenario: Not to the shop, also when asked by name
    When publisher Delta sends a result of Emma to the shop
    Then publisher Delta is told "gate.route" for the shop
    And nobody gets anything
    And no form of the shop has a place for value and raw score

  Scenario: A result that was taken back is not corrected any more
    Given publisher Delta sent a result of Emma
    When publisher Delta sends a retracted result of Emma
      | reason | other person |
    Then only the SIS and the portal get a retracted result of Emma
    And about Emma the SIS and the portal see nothing more
    When publisher Delta sends a corrected result of Emma
    Then publisher Delta is told "object.transition"
    And nobody gets anything

  Scenario: A correction of a result that the broker never saw is delivered, and its sender is told
    When publisher Delta sends a corrected result of Emma
      | number | 7 |
    Then publisher Delta is told "ok.unchecked"
    And only the SIS and the portal get a corrected result of Emma

  @R10
  Scenario: The teacher's remark stays with the publisher
    When publisher Delta sends a result of Emma
      | grade   | 6.1                |
      | comment | Emma had hoofdpijn |
    Then only the SIS and the portal get a result of Emma
    And what the SIS and the portal get has no place for comment
    And the audit log says that the SIS did not get comment
