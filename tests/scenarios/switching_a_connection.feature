Feature: Switching a link on and off
  A school decides which systems exchange what about its pupils, link by link (R5). Whoever wants may offer a link; only the
  administration with the board's mandate accepts for the school. What is switched off stops with the next message.

  Background:
    Given it is 24 November 2026
    And Emma is a pupil of De Regenboog
    And De Regenboog makes with publisher Oost the same agreement as with publisher Delta

  @R5
  Scenario: Offered by the publisher, accepted by the school
    When publisher Oost offers the link for use from publisher Oost to the portal at De Regenboog for the sender
    Then publisher Oost is told that the registry has it
    And the portal and the SIS get a link offer
    And the link for use from publisher Oost to the portal at De Regenboog is off
    When publisher Oost sends a use of Emma to the portal
    Then publisher Oost is told "gate.connection"
    And publisher Oost is told so in the words "The school has no connection to this receiver that both sides accepted."
    When the SIS accepts the link for use from publisher Oost to the portal at De Regenboog
    Then publisher Oost and the portal get a link acceptance
    And only publisher Oost gets a request for all current data
    And the link for use from publisher Oost to the portal at De Regenboog is on
    When publisher Oost sends a use of Emma to the portal
    Then only the portal gets a use of Emma

  @R5
  Scenario: One side is not enough
    When the SIS accepts the link for use from publisher Oost to the portal at De Regenboog for the receiver
    Then the link for use from publisher Oost to the portal at De Regenboog is off
    When publisher Oost sends a use of Emma to the portal
    Then publisher Oost is told "gate.connection"

  @R5
  Scenario Outline: Nobody else accepts for the school: <who>
    When <who> accepts the link for use from publisher Oost to the portal at De Regenboog
    Then <who> is told "<answer>"
    And the link for use from publisher Oost to the portal at De Regenboog is off
    And the control log holds no changes of the registry
    And nobody gets anything

    Examples:
      | who             | answer           |
      | publisher Oost  | link.not_yours   |
      | the portal      | link.not_yours   |
      | SIS Zuid        | school.not_yours |

  @R5
  Scenario: Nor the administration itself, once its mandate is over
    Given the mandate of the SIS for De Regenboog ended on 23 November 2026
    When the SIS accepts the link for use from publisher Oost to the portal at De Regenboog
    Then the SIS is told "link.not_yours"
    And the link for use from publisher Oost to the portal at De Regenboog is off

  @R5
  Scenario: What it accepted counts to the last day of its mandate
    Given the mandate of the SIS for De Regenboog ends on 30 November 2026
    When it becomes 30 November 2026 at 23:59
    And publisher Delta sends a use of Emma to the portal
    Then only the portal gets a use of Emma
    When it becomes 1 December 2026 at 00:00
    And publisher Delta sends a use of Emma to the portal
    Then publisher Delta is told "gate.connection"
    And nobody gets anything
    When publisher Delta sends a retracted use of Emma to the portal
    Then only the portal gets a retracted use of Emma
    When the mandate of the SIS for De Regenboog ends on 31 July 2027
    And publisher Delta sends a use of Emma to the portal
    Then only the portal gets a use of Emma

  @R5
  Scenario: Switched off, it stops with the next message
    When publisher Delta sends a use of Emma
    Then only the portal, the shop and the SIS get a use of Emma
    When the SIS switches off the link for use from publisher Delta to the portal at De Regenboog
    Then publisher Delta and the portal get a link withdrawal
    And nobody else gets anything
    And the control log holds 2 changes of the registry by the SIS
    When publisher Delta sends a use of Emma
    Then only the shop and the SIS get a use of Emma
    When publisher Delta sends a use of Emma to the portal
    Then publisher Delta is told "gate.connection"

  @R5
  Scenario: A party may switch off its own side, and not another's
    When the portal switches off the link for use from publisher Delta to the portal at De Regenboog for the receiver
    Then the portal is told that the registry has it
    And the link for use from publisher Delta to the portal at De Regenboog is off
    When the portal switches off the link for use from publisher West to the portal at De Regenboog for the sender
    Then the portal is told "link.not_yours"
    And the link for use from publisher West to the portal at De Regenboog is on

  @R5
  Scenario: What is on its way when a link is switched off
    Given publisher Delta has a use of Emma to the portal under way
    When the SIS switches off the link for use from publisher Delta to the portal at De Regenboog
    And the broker takes up what is under way
    Then publisher Delta is told "gate.connection"
    And the portal gets a link withdrawal
    And the portal gets nothing else

  @R5
  Scenario: Switched on again, the data of in between are asked for
    When the SIS switches off the link for use from publisher Delta to the portal at De Regenboog
    And it becomes 25 November 2026
    And the SIS accepts the link for use from publisher Delta to the portal at De Regenboog
    Then publisher Delta gets a link withdrawal
    And publisher Delta gets a link acceptance
    And publisher Delta gets a request for all current data
    And the control log holds 1 request for all current data

  @R5 @R15
  Scenario: Who begins anew hears what is blocked, and nothing of what is over
    Given the shop sent a licence for Emma
      | number | 1 |
    And the shop sent a licence block for Emma
      | number | 1 |
    And the shop sent a licence for Emma
      | number | 2 |
    And the shop sent a licence revocation for Emma
      | number | 2 |
    When the SIS switches off the link for licences from the shop to the portal at De Regenboog
    And it becomes 25 November 2026
    And the SIS accepts the link for licences from the shop to the portal at De Regenboog
    Then the shop and the portal get a link withdrawal
    And the shop and the portal get a link acceptance
    And only the shop gets a request for all current data
    When the shop answers the request for all current data
    Then the shop is told "ok"
    And the portal gets a licence for Emma
    And the portal gets a licence block for Emma
    And only the portal gets an end of all current data
    And it tells the portal
      | count | 2 |

  @R19
  Scenario: What was said to all still stands after one began anew
    Given the shop sent a licence for Emma
    And the shop sent a licence block for Emma
    When the SIS switches off the link for licences from the shop to the portal at De Regenboog
    And it becomes 25 November 2026
    And the SIS accepts the link for licences from the shop to the portal at De Regenboog
    Then the shop gets a link withdrawal
    And the shop gets a link acceptance
    And the shop gets a request for all current data
    When the shop answers the request for all current data
    And the shop sends a changed licence for Emma
    Then the shop is told "object.transition"
    When the shop sends a reinstated licence for Emma
    Then the shop is told "ok"

  @R5
  Scenario: Declined, it stays off
    When publisher Oost offers the link for use from publisher Oost to the portal at De Regenboog for the sender
    And the SIS declines the link for use from publisher Oost to the portal at De Regenboog for the sender
    Then publisher Oost gets a link refusal
    And the link for use from publisher Oost to the portal at De Regenboog is off

  @R5
  Scenario: What was never on can not be switched off
    When the SIS switches off the link for use from publisher Oost to the portal at De Regenboog
    Then the SIS is told "object.transition"
    And nobody gets anything

  @R1 @R5
  Scenario: Links are for ways that exist
    When the SIS accepts the link for results from publisher Delta to the shop at De Regenboog
    Then the SIS is told "link.route"
    And nobody gets anything

  @R5
  Scenario: A party with two roles acts in one of them for each message
    Given the portal is also a shop
    When publisher Delta sends a use of Emma
      | activation code | GEHEIM-1 |
      | group           | g7a      |
    Then only the portal, the shop and the SIS get a use of Emma
    And what the portal gets has no place for activation code
    And about Emma the portal sees only usage date and group
