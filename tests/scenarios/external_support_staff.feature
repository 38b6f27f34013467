Feature: Support staff from outside
  Somebody from outside the school helps a pupil and may see how she grows. He is not part of the chain: no ECK iD goes
  there, but a pseudonym of its own (R29, R12), and only what was agreed, of pupils of the school he works for (R20).

  Background:
    Given it is 24 November 2026
    And Emma and Noah are pupils of De Regenboog

  @R29 @R12
  Scenario: A pseudonym of its own, the same each time
    Given Mr Bakker is a teacher of De Regenboog
    When publisher West sends a result of Emma
      | product         | the growth test |
      | year group      | 6               |
      | school subject  | taal            |
      | employee number | Mr Bakker       |
    Then the SIS, the portal and the support staff get a result of Emma
    And nobody else gets anything
    And the support staff knows Emma by a pseudonym of its own only
    And the portal knows Emma by her ECK iD only
    And about Emma the support staff sees only taken on, result type, grade, year group and school subject
    When publisher West sends a result of Noah to the support staff
      | product | the growth test |
    And publisher West sends a result of Emma to the support staff
      | product | the growth test |
    Then the support staff gets a result of Noah
    And the support staff gets a result of Emma
    And the support staff has one pseudonym for Emma
    And the audit log says that the support staff did not get ECK iD

  @R29
  Scenario: Only the test that he helps with
    When publisher West sends a result of Emma
      | product | the doorstroomtoets |
    Then only the SIS and the portal get a result of Emma
    When publisher West sends a result of Emma to the support staff
      | product | the doorstroomtoets |
    Then publisher West is told "gate.connection"
    And nobody gets anything

  @R29
  Scenario: Nothing else of the school
    When publisher West sends a use of Emma to the support staff
      | product | the growth test |
    Then publisher West is told "gate.connection"
    And nobody gets anything

  @R29 @R20
  Scenario: At Het Kompas he works at one location, in his own right
    Given Sara is a pupil of Het Kompas
    When publisher West sends a result of Sara to the support staff
      | product | the growth test |
    Then publisher West is told "gate.connection"
    And nobody gets anything
    When publisher West sends a result of Sara to the support staff
      | product  | the growth test |
      | location | 99VA00          |
    Then publisher West is told "gate.connection"
    And nobody gets anything
    When publisher West sends a result of Sara to the support staff
      | product  | the growth test |
      | location | 99VA01          |
    Then only the support staff gets a result of Sara
    And the support staff knows Sara by a pseudonym of its own only
    And the audit log rests what the support staff got on the agreement "hulp-vo"

  @R29 @R27
  Scenario: Without an agreement nothing, whoever asks
    Given De Regenboog has no agreement with the support staff
    When publisher West sends a result of Emma to the support staff
      | product | the growth test |
    Then publisher West is told "gate.agreement"
    And nobody gets anything

  @R6 @R12
  Scenario: A supplier that leaves the covenant gets no ECK iD any more
    Given the portal is not in the covenant
    When publisher Delta sends a use of Emma to the portal
    Then only the portal gets a use of Emma
    And the portal knows Emma by a pseudonym of its own only
