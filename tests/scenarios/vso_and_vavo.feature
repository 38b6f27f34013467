Feature: Special secondary education at a primary school, vavo at an MBO school
  The sector belongs to the enrolment, not to the school (R2). Noah follows VSO at De Regenboog: the rules and the ECK iD of
  VO are his. Sami does vavo at De Werf. The SIS gets its own id back with what comes for its pupils (R19).

  Background:
    Given it is 24 November 2026
    And Noah is a pupil of De Regenboog in special secondary education
    And Emma is a pupil of De Regenboog

  @R2 @R19
  Scenario: Noah is known by the ECK iD of VO
    When publisher Delta sends a use of Noah
    Then only the portal, the shop and the SIS get a use of Noah
    And the portal knows Noah by his ECK iD only
    And the SIS knows Noah by his ECK iD and local id only

  @R2 @R3
  Scenario: His ECK iD of the primary school is none in VO
    When publisher Delta sends a use of Noah by the ECK iD of PO
    Then publisher Delta is told "subject.unknown"
    And nobody gets anything

  @R2
  Scenario: A VO pupil is not found among the primary school's
    When publisher Delta sends a use of Noah by the ECK iD of VO
      | sector | PO |
    Then publisher Delta is told "subject.unknown"
    And nobody gets anything

  @R2 @R10
  Scenario: The rules of his sector hold
    Given the agreement of De Regenboog with the shop also names home address
    When the SIS sends a delivery address of Noah
      | material | paper |
    Then only the shop gets a delivery address of Noah
    When the SIS sends a delivery address of Emma
      | material | paper |
    Then the SIS is told "gate.policy" for the shop
    And nobody gets anything

  @R2
  Scenario: A school that has no such sector
    When publisher Delta sends a use of Emma
      | sector | MBO |
    Then publisher Delta is told "school.sector"
    And nobody gets anything

  @R2 @R19
  Scenario: Vavo at De Werf
    Given De Werf also has pupils in VO
    And Sami is a pupil of De Werf in vavo
    When publisher Delta sends a use of Sami
    Then only the portal, the shop and SIS Zuid get a use of Sami
    And the portal knows Sami by his ECK iD only
    And SIS Zuid knows Sami by his ECK iD and local id only
    When publisher Delta sends a use of Sami by the ECK iD of MBO
    Then publisher Delta is told "subject.unknown"
    And nobody gets anything

  @R19
  Scenario: Its own id goes to the school's own administration only
    When publisher Delta sends a use of Noah
    Then only the portal, the shop and the SIS get a use of Noah
    And the portal and the shop know Noah by his ECK iD only
    When the mandate of the SIS for De Regenboog ended on 23 November 2026
    And publisher Delta sends a use of Noah to the SIS
    Then publisher Delta is told "gate.connection"
    When publisher Delta sends a retracted use of Noah to the SIS
    Then only the SIS gets a retracted use of Noah
    And the SIS knows Noah by his ECK iD only
