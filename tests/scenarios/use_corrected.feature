Feature: A use that was counted wrong
  A publisher tells what is used, and sometimes it was wrong. The correction has the same number and a higher version; what was
  taken back stays taken back (R19). The broker remembers corrections only: of a million uses a day hardly one needs it.

  Background:
    Given it is 24 November 2026
    And Emma is a pupil of De Regenboog
    And publisher Delta sent a use of Emma
      | number | 1 |
      | logins | 12 |

  @R19
  Scenario: The higher version counts
    When publisher Delta sends a use of Emma
      | number | 1 |
      | logins | 2 |
    Then publisher Delta is told "ok.unchecked"
    And only the portal, the shop and the SIS get a use of Emma
    And it tells the portal, the shop and the SIS
      | revision | 2 |
    When publisher Delta sends a use of Emma
      | number | 1 |
      | logins | 3 |
    Then publisher Delta is told "ok"
    And only the portal, the shop and the SIS get a use of Emma
    When publisher Delta sends a use of Emma
      | number   | 1 |
      | revision | 2 |
    Then publisher Delta is told "object.stale"
    And nobody gets anything

  @R19
  Scenario: What was taken back stays taken back
    When publisher Delta sends a retracted use of Emma
    Then only the portal, the shop and the SIS get a retracted use of Emma
    When publisher Delta sends a use of Emma
      | number | 1 |
    Then publisher Delta is told "object.transition"
    And nobody gets anything
    When publisher Delta sends a use of Emma
      | number | 2 |
    Then publisher Delta is told "ok"
    And only the portal, the shop and the SIS get a use of Emma
