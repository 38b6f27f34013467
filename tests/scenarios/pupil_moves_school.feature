Feature: A pupil moves to another school in November
  Emma leaves De Regenboog and goes to De Vlinder. Her ECK iD stays, since both are primary schools; her enrolment does not
  (R19). The old school gets nothing of what happens after her last day, but what closes her affairs there (R20).

  Background:
    Given it is 16 November 2026
    And De Vlinder is a school of the same board as De Regenboog, with the same links
    And Emma is a pupil of De Regenboog

  @R19
  Scenario: The same ECK iD at the new school
    When Emma leaves De Regenboog on 20 November 2026
    And it becomes 23 November 2026
    And the SIS enrols Emma at De Vlinder
    And publisher Delta sends a use of Emma at De Vlinder
    Then only the portal, the shop and the SIS get a use of Emma
    And the portal knows Emma by her ECK iD only
    And the SIS knows Emma by her ECK iD and local id only

  @R19
  Scenario: The old school hears no more of her
    When Emma leaves De Regenboog on 20 November 2026
    And it becomes 23 November 2026
    And the SIS enrols Emma at De Vlinder
    And publisher Delta sends a use of Emma at De Regenboog
    Then publisher Delta is told "subject.left"
    And publisher Delta is told so in the words "The pupil left the school; only what closes something still passes, for a while."
    And nobody gets anything

  @R19
  Scenario: To her last day all goes on, after it a sender's own date changes nothing
    When Emma leaves De Regenboog on 20 November 2026
    And it becomes 20 November 2026 at 23:59
    And publisher Delta sends a use of Emma at De Regenboog
    Then only the portal, the shop and the SIS get a use of Emma
    When it becomes 21 November 2026 at 00:00
    And publisher Delta sends a use of Emma at De Regenboog
      | dated | 19 November 2026 |
    Then publisher Delta is told "subject.left"
    And nobody gets anything

  @R19
  Scenario: Her licence at the old school is closed, with no word more than needed
    Given the shop sent a licence for Emma
    When Emma leaves De Regenboog on 20 November 2026
    And it becomes 23 November 2026
    And the shop sends a licence revocation for Emma at De Regenboog
    Then only publisher Delta and the portal get a licence revocation for Emma
    And about Emma publisher Delta and the portal see nothing more
    When the shop sends a licence for Emma at De Regenboog
    Then the shop is told "subject.left"
    And nobody gets anything

  @R19
  Scenario: After two months nothing is left to close
    Given the shop sent a licence for Emma
    When Emma leaves De Regenboog on 20 November 2026
    And it becomes 22 January 2027
    And the shop sends a licence revocation for Emma at De Regenboog
    Then the shop is told "subject.left"
    And nobody gets anything

  @R20
  Scenario: Before she is enrolled, the new school can not ask for her
    When publisher Delta sends a use of Emma at De Vlinder
    Then publisher Delta is told "subject.unknown"
    And nobody gets anything

  @R20 @R29
  Scenario: Who may not have the ECK iD can not see that she is the same
    When publisher West sends a result of Emma at De Regenboog to the support staff
      | product | the growth test |
    Then only the support staff gets a result of Emma
    And the support staff knows Emma by a pseudonym of its own only
    When Emma leaves De Regenboog on 20 November 2026
    And the SIS enrols Emma at De Vlinder
    And publisher West sends a result of Emma at De Vlinder to the support staff
      | product | the growth test |
    Then only the support staff gets a result of Emma
    And the support staff knows Emma by a pseudonym of its own only
    And the support staff has two pseudonyms for Emma

  Scenario: She comes back
    When Emma leaves De Regenboog on 20 November 2026
    And it becomes 7 December 2026
    And the SIS enrols Emma at De Regenboog
    And publisher Delta sends a use of Emma at De Regenboog
    Then only the portal, the shop and the SIS get a use of Emma
