Feature: The class list of a primary school
  ParnasSys, ESIS and other administrations give a class list by an open standard (EDEXML). The connector makes enrolments
  of it, with the ECK iD and the local id and no more (R7, R10). Numbers of the state that stand in it stay with the school.

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
