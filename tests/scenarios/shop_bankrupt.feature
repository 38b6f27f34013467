Feature: The shop goes bankrupt
  The shop is bankrupt on Friday afternoon. The boards end the agreements and switch its links off at once; nothing is
  delivered to it any more, what was on its way and what waited included (R5, R27). It is asked to destroy what it has.

  Background:
    Given it is 27 November 2026
    And Emma is a pupil of Het Kompas
    And Noah will come to Het Kompas
    And the SIS sent an order for Emma
      | number | 1 |

  @R5
  Scenario: What is on its way is not delivered
    Given the SIS has an order for Emma under way
    When all links of the shop are switched off
    And the boards have no agreement with the shop any more
    And the broker takes up what is under way
    Then the SIS is told "gate.receivers"
    And the SIS is told so in the words "No receiver is connected for this school, so nobody got the event."
    And the shop gets 2 requests to destroy
    And nobody else gets anything

  @R5 @R27
  Scenario Outline: One of the two is enough
    Given the SIS has an order for Emma to the shop under way
    When <what>
    And the broker takes up what is under way
    Then the SIS is told "<answer>"
    And nobody gets an order

    Examples:
      | what                                                | answer          |
      | all links of the shop are switched off              | gate.connection |
      | the boards have no agreement with the shop any more | gate.agreement  |

  @R5
  Scenario: What waited for a pupil is not delivered when he comes
    Given the SIS sent an order for Noah
    And all links of the shop are switched off
    When the SIS enrols Noah at Het Kompas
    Then the SIS is told "gate.receivers" about the order for Noah
    And nothing waits any more
    And nobody gets anything

  @R5
  Scenario: It is asked to destroy what it has, where it worked for the school
    When the boards have no agreement with the shop any more
    Then the shop gets a request to destroy
    And it tells the shop
      | agreement id | vwo-po-winkel |
    And only the shop gets a request to destroy
    And it tells the shop
      | agreement id | vwo-vo-winkel |
    And the control log holds 2 requests to destroy to the shop

  @R19
  Scenario: The school may still cancel, and the publishers still get their credits
    Given the shop sent an order line at Het Kompas to publisher Delta
      | number | 2 |
    When all links of the shop are switched off
    And the boards have no agreement with the shop any more
    Then the shop gets 2 requests to destroy
    When the SIS sends a cancelled order for Emma
      | number | 1 |
    Then the SIS is told "ok"
    And only the shop gets a cancelled order for Emma
    And about Emma the shop sees nothing more
    When the shop sends a credit request at Het Kompas to publisher Delta
      | number | 2 |
    Then only publisher Delta gets a credit request

  Scenario: What does not concern the shop goes on
    When all links of the shop are switched off
    And the boards have no agreement with the shop any more
    And publisher Delta sends a use of Emma
    Then the shop gets 2 requests to destroy
    And only the portal and the SIS get a use of Emma
