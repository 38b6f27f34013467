Feature: A link comes to its end
  A school switches a link off, whatever its two sides had said (R5). What closes something still passes for two months, with
  nothing but what it is about, and no party of the link can cut that short (R19). A day is a day in the Netherlands.

  Background:
    Given it is 24 November 2026
    And Emma is a pupil of De Regenboog
    And De Regenboog makes with publisher Oost the same agreement as with publisher Delta
    And publisher Delta sent a use of Emma

  @R5
  Scenario: One side is off already
    When the portal switches off the link for use from publisher Delta to the portal at De Regenboog for the receiver
    And the SIS switches off the link for use from publisher Delta to the portal at De Regenboog
    Then the SIS is told that the registry has it
    And the control log holds 1 change of the registry by the portal
    And the control log holds 1 change of the registry by the SIS
    When the SIS accepts the link for use from publisher Delta to the portal at De Regenboog for the receiver
    Then the link for use from publisher Delta to the portal at De Regenboog is off
    When the SIS switches off the link for use from publisher Delta to the portal at De Regenboog
    Then the SIS is told that the registry has it
    When the SIS switches off the link for use from publisher Delta to the portal at De Regenboog
    Then the SIS is told "object.transition"

  @R5
  Scenario: One side is accepted already
    When the SIS accepts the link for use from publisher Oost to the portal at De Regenboog for the receiver
    And publisher Oost offers the link for use from publisher Oost to the portal at De Regenboog for the sender
    And the SIS accepts the link for use from publisher Oost to the portal at De Regenboog
    Then the SIS is told that the registry has it
    And the link for use from publisher Oost to the portal at De Regenboog is on

  @R5
  Scenario: The school says no to what was offered
    When the SIS accepts the link for use from publisher Oost to the portal at De Regenboog for the receiver
    And publisher Oost offers the link for use from publisher Oost to the portal at De Regenboog for the sender
    And the SIS declines the link for use from publisher Oost to the portal at De Regenboog
    Then the SIS is told that the registry has it
    And the link for use from publisher Oost to the portal at De Regenboog is off
    When the SIS declines the link for use from publisher Oost to the portal at De Regenboog
    Then the SIS is told "object.transition"

  @R5 @R19
  Scenario: What was wrong can still be taken back, for two months
    When the SIS switches off the link for use from publisher Delta to the portal at De Regenboog
    And it becomes 25 January 2027
    And publisher Delta sends a retracted use of Emma to the portal
    Then the portal gets a link withdrawal
    And the portal gets a retracted use of Emma
    When it becomes 26 January 2027
    And publisher Delta sends a retracted use of Emma to the portal
    Then publisher Delta is told "gate.connection"

  @R19
  Scenario Outline: Offered anew, it can still be taken back: <who>
    When the SIS switches off the link for use from publisher Delta to the portal at De Regenboog
    And it becomes 21 January 2027
    And <who> offers the link for use from publisher Delta to the portal at De Regenboog for the <side>
    Then <who> is told that the registry has it
    When publisher Delta sends a retracted use of Emma to the portal
    Then publisher Delta is told "ok.unchecked" for the portal
    When the SIS declines the link for use from publisher Delta to the portal at De Regenboog for the <side>
    Then the SIS is told that the registry has it
    When it becomes 25 January 2027
    And publisher Delta sends a retracted use of Emma to the portal
      | number | 2 |
    Then publisher Delta is told "ok.unchecked" for the portal
    When it becomes 26 January 2027
    And publisher Delta sends a retracted use of Emma to the portal
    Then publisher Delta is told "gate.connection"

    Examples:
      | who             | side     |
      | publisher Delta | sender   |
      | the portal      | receiver |

  @R19
  Scenario: The last day of a link ends at midnight in the Netherlands
    When it becomes 25 November 2026 at 00:30
    And the SIS switches off the link for results from publisher Delta to the SIS at De Regenboog
    And it becomes 27 November 2026
    And publisher Delta sends a result of Emma to the SIS
      | taken on | 25 November 2026 |
    Then publisher Delta gets a link withdrawal
    And only the SIS gets a result of Emma
    When publisher Delta sends a result of Emma to the SIS
      | taken on | 26 November 2026 |
    Then publisher Delta is told "gate.ended"

  @R5
  Scenario: A new link has a number, and no name
    When the SIS accepts the link for use from publisher Oost to the portal at De Regenboog, calling it "klas-van-Emma"
    Then the SIS is told "link.form"
    And the control log holds no changes of the registry
    And nobody gets anything
