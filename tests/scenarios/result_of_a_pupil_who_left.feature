Feature: The result of a pupil who left
  Emma took a test on Wednesday, left the school on Friday, and her result came on Tuesday. The school gets it, and only the
  result itself, since a result must not get lost (R19). A test after her last day is not this school's business (R20).

  Background:
    Given it is 18 November 2026
    And Emma is a pupil of De Regenboog
    And Emma leaves De Regenboog on 20 November 2026
    And it is 24 November 2026

  @R19
  Scenario: The test was before she left
    When publisher Delta sends a result of Emma
      | taken on       | 18 November 2026 |
      | grade          | 7.5              |
      | school subject | rekenen          |
      | year group     | 7                |
    Then only the SIS and the portal get a result of Emma
    And about Emma the SIS and the portal see only taken on, result type and grade
    And the audit log says that the SIS did not get year group and school subject id

  @R19
  Scenario Outline: Sent while she was there, the school subject comes along; dated back, it does not
    Given it is <sent on>
    When publisher Delta sends a result of Emma
      | dated          | 19 November 2026 |
      | taken on       | 18 November 2026 |
      | school subject | rekenen          |
    Then only the SIS and the portal get a result of Emma
    And about Emma the SIS sees only <what>

    Examples:
      | sent on          | what                                            |
      | 19 November 2026 | taken on, result type, grade and school subject |
      | 24 November 2026 | taken on, result type and grade                 |

  @R20
  Scenario: The test was after she left
    When publisher Delta sends a result of Emma
      | taken on | 23 November 2026 |
    Then publisher Delta is told "subject.left" for the SIS and the portal
    And nobody gets anything

  @R19
  Scenario: A correction of it still comes, a new result does not come for ever
    Given publisher Delta sent a result of Emma
      | taken on | 18 November 2026 |
    When publisher Delta sends a corrected result of Emma
      | taken on | 18 November 2026 |
      | grade    | 7.9              |
    Then only the SIS and the portal get a corrected result of Emma
    When it becomes 21 January 2027
    And publisher Delta sends a corrected result of Emma
      | taken on | 18 November 2026 |
      | grade    | 8.1              |
    Then only the SIS and the portal get a corrected result of Emma
    When it becomes 22 January 2027
    And publisher Delta sends a corrected result of Emma
      | taken on | 18 November 2026 |
      | grade    | 8.0              |
    Then publisher Delta is told "subject.left" for the SIS and the portal
    And nobody gets anything
