Feature: Boards merge and a school gets another number
  The board of Het Kompas merges into that of Horizon. What was agreed and switched on goes over, or ends: one of the two is
  said, nothing is left to silence (R5, R6). When later the school's number (BRIN) changes, its pupils stay who they are (R3).

  Background:
    Given it is 24 November 2026
    And Emma is a pupil of Het Kompas

  @R5 @R6
  Scenario: Agreements and links go over
    When the board of Kompas merges into that of Horizon on 1 January 2027
      | agreements | go over |
      | links      | go over |
    Then nobody gets anything
    When publisher Delta sends a use of Emma
    Then only the portal, the shop and the SIS get a use of Emma
    And the portal knows Emma by her ECK iD only
    And the audit log rests what the portal got on the agreement "vwo-vo-portaal"

  @R5 @R6
  Scenario: Agreements end, so nothing flows until there are new ones
    When the board of Kompas merges into that of Horizon on 1 January 2027
      | agreements | end     |
      | links      | go over |
    Then publisher Delta, publisher West, the portal, the shop and the SIS get a request to destroy
    And nobody else gets anything
    When publisher Delta sends a use of Emma
    Then publisher Delta is told "gate.receivers"
    And nobody gets anything
    When publisher Delta sends a use of Emma to the portal
    Then publisher Delta is told "gate.agreement"
    And nobody gets anything

  @R5
  Scenario: Links end, so what needs one stops, and the rest goes on
    When the board of Kompas merges into that of Horizon on 1 January 2027
      | agreements | go over |
      | links      | end     |
    Then nobody gets anything
    When publisher Delta sends a use of Emma
    Then only the shop gets a use of Emma
    When publisher Delta sends a use of Emma to the portal
    Then publisher Delta is told "gate.connection"
    And nobody gets anything

  @R20
  Scenario: The agreements of the one board are not those of the other
    Given Noah is a pupil of De Regenboog
    When the board of Kompas merges into that of Horizon on 1 January 2027
      | agreements | end |
      | links      | end |
    And publisher Delta sends a use of Noah
    Then publisher Delta, publisher West, the portal, the shop and the SIS get a request to destroy
    And only the portal, the shop and the SIS get a use of Noah
    When the shop sends an order line at Het Kompas to publisher Delta
    Then the shop is told "gate.agreement"
    And nobody gets anything

  @R3
  Scenario: Another number, the same pupils
    When the number of Het Kompas becomes 99VB on 1 January 2027
      | pupils | stay known |
    And publisher Delta sends a use of Emma
    Then only the portal, the shop and the SIS get a use of Emma
    And the portal knows Emma by her ECK iD only
    And the SIS knows Emma by her ECK iD and local id only
    When publisher West sends a result of Emma to the SIS
      | product | the growth test |
    Then only the SIS gets a result of Emma

  @R20
  Scenario: The old number is nobody's any more
    When the number of Het Kompas becomes 99VB on 1 January 2027
      | pupils | stay known |
    And publisher Delta sends a use of Emma under the number 99VA
    Then publisher Delta is told "school.not_yours"
    And nobody gets anything

  Scenario: Another number, and the pupils are enrolled anew
    When the number of Het Kompas becomes 99VB on 1 January 2027
      | pupils | are forgotten |
    And publisher Delta sends a use of Emma
    Then publisher Delta is told "subject.unknown"
    And nobody gets anything
    When the SIS enrols Emma at Het Kompas
    And publisher Delta sends a use of Emma
    Then only the portal, the shop and the SIS get a use of Emma
