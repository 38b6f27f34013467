Feature: Ordering in June
  Schools order in June for pupils who come in August. The order often is there before the enrolment: it waits, and goes
  on as soon as the school has enrolled the pupil (R6b). Nobody gets anything of a pupil who is not there yet (R19).

  Background:
    Given it is 15 June 2027
    And Emma will come to Het Kompas

  @R6b @R19
  Scenario: An order waits for the enrolment and then goes to the shop
    When the SIS sends an order for Emma
      | product     | the arithmetic book |
      | school year | 2027-2028           |
    Then the SIS is told "subject.waiting"
    And the message waits
    And nobody gets anything
    When it becomes 31 July 2027
    And the SIS enrols Emma at Het Kompas
    Then only the shop gets an order for Emma
    And the shop knows Emma by her ECK iD only
    And it tells the shop
      | product | the arithmetic book |
    And the SIS is told "ok" about the order for Emma
    And nothing waits any more

  @R6b
  Scenario: What was ordered and then changed goes on in the same order
    When the SIS sends an order for Emma
    And the SIS sends a changed order for Emma
      | pieces | 2 |
    Then 2 messages wait
    When the SIS enrols Emma at Het Kompas
    Then the shop gets an order for Emma
    And only the shop gets a changed order for Emma

  @R28
  Scenario: A pupil who does not come in August either
    When the SIS sends an order for Emma
      | school year | 2027-2028 |
    And it becomes 31 August 2027
    Then the message waits
    When it becomes 1 September 2027
    Then the SIS is told "parked.expired"
    And nothing waits any more

  @R28
  Scenario: A pupil who never comes
    When the SIS sends an order for Emma
    And it becomes 16 July 2027
    Then the SIS is told "parked.expired"
    And the SIS is told so in the words "The event waited for an enrolment that did not come; send it again once the pupil is enrolled."
    And nothing waits any more
    When the SIS enrols Emma at Het Kompas
    Then nobody gets anything

  Scenario Outline: An order is for the previous, the current or the next school year
    When the SIS enrols Emma at Het Kompas
    And the SIS sends an order for Emma
      | school year | <year> |
    Then the SIS is told "<answer>" about the order for Emma

    Examples:
      | year      | answer           |
      | 2024-2025 | school_year.form |
      | 2025-2026 | ok               |
      | 2026-2027 | ok               |
      | 2027-2028 | ok               |
      | 2028-2029 | school_year.form |

  Scenario Outline: At midnight in the Netherlands the new school year begins, and the one after it may be ordered for
    When the SIS enrols Emma at Het Kompas
    And it becomes <day> at <time>
    And the SIS sends an order for Emma
      | school year | 2028-2029 |
    Then the SIS is told "<answer>"

    Examples:
      | day           | time  | answer           |
      | 31 July 2027  | 23:59 | school_year.form |
      | 1 August 2027 | 00:00 | ok               |
