Feature: A rule changes
  Public and private parties agree together on what may pass (R11). A rule is data: it has a purpose, a basis, evidence and
  an owner (R15). Before a new policy holds, anyone can see what it changes; a rule without purpose is none.

  Background:
    Given it is 24 November 2026
    And Emma is a pupil of De Regenboog

  @R11
  Scenario: What a new policy would change is shown first
    When somebody proposes that the rule "year-group" becomes never in Toegang
    Then the difference says "yearGroup in Toegang (PO/VO/MBO) to SIS, SHOP, PUBLISHER, PORTAL: was A (allowed); becomes D (never)."
    And the difference says nothing else
    When the SIS sends a group membership of Emma to publisher Delta
      | year group | 7 |
    Then only publisher Delta gets a group membership of Emma
    And about Emma publisher Delta sees only groups and year group

  @R11
  Scenario: Once taken it holds for the next message, and the audit log says under which version
    When somebody proposes that the rule "year-group" becomes never in Toegang
    And the proposal is taken
    And the SIS sends a group membership of Emma to publisher Delta
      | year group | 7 |
    Then only publisher Delta gets a group membership of Emma
    And about Emma publisher Delta sees only groups
    And the audit log names the new version of the policy

  @R11 @R15
  Scenario Outline: A rule without <what> is no rule
    When somebody proposes that the rule "year-group" has no <what>
    Then the proposal is refused: <what> is missing

    Examples:
      | what     |
      | purpose  |
      | basis    |
      | evidence |
      | owner    |

  @R15
  Scenario: "Because it is handy" is no basis
    When somebody proposes that the rule "year-group" has the basis "handy"
    Then the proposal is refused, because of "basis"
