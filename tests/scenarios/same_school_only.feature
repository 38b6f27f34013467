Feature: Only within the same school
  A party sees pupils of the schools it works for, and there only the pupils of that school (R20). Whether a pupil is unknown
  or is at another school, the answer is one and the same: nobody can find out by asking.

  Background:
    Given it is 24 November 2026
    And Emma is a pupil of De Regenboog in special secondary education
    And Noah is a pupil of Het Kompas

  @R20
  Scenario: A pupil of another school and one who does not exist
    Given Sara will come to Het Kompas
    When publisher Delta sends a use of Emma at Het Kompas
    And publisher Delta sends a use of Sara at Het Kompas
    Then publisher Delta is told "subject.unknown"
    And publisher Delta is told so in the words "The identifier is not known at this school."
    And publisher Delta is told exactly the same for both
    And nobody gets anything
    And the audit log has the refusal "subject.unknown"

  @R20
  Scenario: By a local id too: both wait for an enrolment
    Given Sara will come to Het Kompas
    When publisher Delta sends a use of Emma at Het Kompas by her local id
    And publisher Delta sends a use of Sara at Het Kompas by her local id
    Then publisher Delta is told "subject.waiting"
    And publisher Delta is told exactly the same for both
    And nobody gets anything

  @R20
  Scenario: A school that is not one's own and one that does not exist
    When SIS Zuid sends an order for Noah at Het Kompas
    And SIS Zuid sends an order of Noah under the number 99ZZ
    Then SIS Zuid is told "school.not_yours"
    And SIS Zuid is told so in the words "The school is not one that this party serves."
    And SIS Zuid is told exactly the same for both
    And nobody gets anything
    And the audit log has the refusal "school.not_yours"

  @R20
  Scenario: A receiver of another school and one that does not exist
    When publisher Delta sends a use of Noah to SIS Zuid
    And publisher Delta sends a use of Noah to a party that does not exist
    Then publisher Delta is told "gate.connection"
    And publisher Delta is told exactly the same for both
    And nobody gets anything

  @R20
  Scenario: A teacher of another school and one who does not exist
    Given Mr Bakker is a teacher of De Regenboog
    And Ms Jansen will come to Het Kompas
    When publisher Delta sends a result of Noah
      | employee number | Mr Bakker |
    And publisher Delta sends a result of Noah
      | employee number | Ms Jansen |
    Then publisher Delta is told "subject.unknown"
    And publisher Delta is told that it is about the employee number
    And publisher Delta is told exactly the same for both
    And nobody gets anything

  @R20
  Scenario: The administration of one school learns nothing of the other
    When publisher Delta sends a use of Noah
    Then the portal, the shop and the SIS get a use of Noah
    And SIS Zuid gets nothing
    And nobody else gets anything

  @R20
  Scenario: One record for each of two pupils
    When publisher Delta sends a use of Noah
    And publisher Delta sends a use of Emma
    Then the portal gets a use of Noah
    And the shop gets a use of Noah
    And the shop gets a use of Emma
    And the shop does not find Emma and Noah under one key
