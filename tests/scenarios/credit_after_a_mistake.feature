Feature: Credit after a mistake
  The shop ordered thirty licences at the publisher and needed three. The credit names the order line and no pupil (R10).
  It also passes after the agreement has ended: accounts are settled, and nothing else flows (R19).

  Background:
    Given it is 24 November 2026
    And the shop sent an order line at Het Kompas to publisher Delta
      | pieces | 30 |

  Scenario: The publisher credits what was ordered by mistake
    When the shop sends a credit request at Het Kompas to publisher Delta
      | pieces | 27                 |
      | reason | ordered by mistake |
    Then only publisher Delta gets a credit request
    And it tells publisher Delta
      | pieces | 27                 |
      | reason | ordered by mistake |
    And the shop is told "ok"
    When publisher Delta sends an order confirmation at Het Kompas to the shop
    And publisher Delta sends a credit note at Het Kompas to the shop
      | pieces | 27 |
    Then the shop gets an order confirmation
    And only the shop gets a credit note

  @R10
  Scenario: No pupil is in it
    Given Emma is a pupil of Het Kompas
    When the shop sends a credit request for Emma to publisher Delta
    Then the shop is told "subject.not_allowed"
    And nobody gets anything

  Scenario: What was not said in between is said first
    When the shop sends a credit request at Het Kompas to publisher Delta
      | revision | 1 |
    Then the shop is told "object.stale"
    And nobody gets anything

  @R19
  Scenario: After the agreement has ended
    Given the agreement of Het Kompas with publisher Delta ends on 31 December 2026
    When it becomes 15 January 2027
    Then only publisher Delta gets a request to destroy
    When the shop sends a changed order line at Het Kompas to publisher Delta
      | pieces | 31 |
    Then the shop is told "gate.agreement" for publisher Delta
    And the shop is told so in the words "No agreement (or not one that is valid today) covers this receiver, product and process."
    And nobody gets anything
    When the shop sends a credit request at Het Kompas to publisher Delta
    Then only publisher Delta gets a credit request
    When publisher Delta sends a credit note at Het Kompas to the shop
    Then publisher Delta is told "ok.unchecked"
    And only the shop gets a credit note

  @R19
  Scenario: Once, not for ever
    Given the agreement of Het Kompas with publisher Delta ends on 31 December 2026
    When it becomes 4 February 2028
    And the shop sends a credit request at Het Kompas to publisher Delta
    Then the shop is told "ok"
    When it becomes 5 February 2028
    And the shop sends a credit request at Het Kompas to publisher Delta
    Then the shop is told "gate.agreement" for publisher Delta
