Feature: The class list of a primary school
  Class lists of ParnasSys, ESIS, EDUscope and School OAS are read by open standards: a file (EDEXML) or an answer to a
  question (UWLR). How each product writes is known in part only; those here are invented by what is known. The connector
  makes enrolments of a list, with the ECK iD and the local id and no more (R7, R10). Numbers of the state stay with the school.

  Background:
    Given it is 24 November 2026
    And Emma and Noah will come to De Regenboog

  @R7 @R3
  Scenario: Pupils are enrolled from it
    When the SIS reads the class list of De Regenboog
      | name | ECK iD | bsn       |
      | Emma | yes    | 182071649 |
      | Noah | yes    |           |
    And publisher Delta sends a use of Emma
    Then only the portal, the shop and the SIS get a use of Emma
    And the portal knows Emma by her ECK iD only
    And the SIS knows Emma by her ECK iD and local id only

  @R7 @R10
  Scenario: A number of the state in it is counted, and goes nowhere
    When the SIS reads the class list of De Regenboog
      | name | ECK iD | bsn       |
      | Emma | yes    | 182071649 |
    Then the connector says that it left out 1 number of the state
    And the SIS is told "ok.vault"
    And "182071649" can be read nowhere
    And "Emma" can be read nowhere
    And nothing is in quarantine

  @R7 @R13
  Scenario: A pupil without an ECK iD is enrolled as well
    When the SIS reads the class list of De Regenboog
      | name | ECK iD | bsn |
      | Noah | no     |     |
    And publisher Delta sends a use of Noah by his local id to the portal
    Then only the portal gets a use of Noah
    And the portal knows Noah by his local id only

  @R7
  Scenario: A number of the state where the local id should be stops the whole list
    When the SIS reads the class list of De Regenboog, with "182071649" as the key of Emma
    Then the connector refuses the list, because of "the key reads as a personal number"
    And nobody gets anything

  @R7
  Scenario Outline: Each administration's list is read, in the way in which it is known to write
    When the SIS reads the class list of De Regenboog that <administration> wrote in <standard>
      | name | ECK iD | bsn       |
      | Emma | yes    | 182071649 |
      | Noah | no     |           |
    And publisher Delta sends a use of Emma
    Then only the portal, the shop and the SIS get a use of Emma
    And the portal knows Emma by her ECK iD only
    And the SIS knows Emma by her ECK iD and local id only
    And "182071649" can be read nowhere

    Examples:
      | administration | standard   |
      | ParnasSys      | EDEXML 2.1 |
      | ParnasSys      | UWLR 2.2   |
      | ESIS           | EDEXML 2.1 |
      | ESIS           | UWLR 2.2   |
      | EDUscope       | EDEXML 2.1 |
      | EDUscope       | UWLR 2.2   |
      | School OAS     | EDEXML 2.1 |
      | School OAS     | UWLR 2.2   |

  @R7 @R3
  Scenario: The newest UWLR names a pupil by ECK iD alone
    When the SIS reads the class list of De Regenboog that ESIS wrote in UWLR 2.3
      | name | ECK iD | bsn |
      | Emma | yes    |     |
    Then the SIS is told "ok.vault"
    When publisher Delta sends a use of Emma to the portal
    Then only the portal gets a use of Emma
    And the portal knows Emma by her ECK iD only

  @R7
  Scenario: Two pupils with one key stop the list, though UWLR's own schema lets them pass
    When the SIS reads the class list of De Regenboog that ParnasSys wrote in UWLR 2.2
      | name | ECK iD | bsn | key   |
      | Emma | yes    |     | L-100 |
      | Noah | yes    |     | L-100 |
    Then the connector refuses the list, because of "the key is used twice"
    And nobody gets anything
    When publisher Delta sends a use of Emma to the portal
    Then publisher Delta is told "subject.unknown"

  @R7
  Scenario: What an administration is not known to write is not guessed at
    When the SIS reads a class list of De Regenboog of which ParnasSys wrote the school's particulars in another order
    Then the connector refuses the list, because of "the product configuration parnassys does not tolerate element-order"
    And nobody gets anything

  @R7
  Scenario: School OAS ended before the newest UWLR came
    When the SIS reads the class list of De Regenboog that School OAS wrote in UWLR 2.3
      | name | ECK iD | bsn |
      | Emma | yes    |     |
    Then the connector refuses the list, because of "the product configuration school-oas reads uwlr 2.2"
    And nobody gets anything
