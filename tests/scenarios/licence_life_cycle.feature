Feature: The life of a licence
  A licence is granted, confirmed, activated, changed, blocked, reinstated, transferred, and at last revoked or expired. Each
  sender tells it in order; what can not follow is refused, and an older version is not believed (R19).

  Background:
    Given it is 24 November 2026
    And Emma and Noah are pupils of De Regenboog
    And the shop sent a licence for Emma
      | start date      | 24 November 2026 |
      | expiration date | 31 July 2027     |

  @R19 @R1
  Scenario: From beginning to end
    When publisher Delta sends a licence confirmation for Emma to the shop
      | status | provisioned |
    Then only the shop gets a licence confirmation for Emma
    When the portal sends a licence confirmation for Emma to the shop
      | status | link ready |
    Then only the shop gets a licence confirmation for Emma
    When publisher Delta sends a licence activation for Emma to the shop
    Then only the shop gets a licence activation for Emma
    When the shop sends a changed licence for Emma
      | expiration date | 31 August 2027 |
      | activation code | GEHEIM-1       |
    Then only publisher Delta and the portal get a changed licence for Emma
    And the audit log books what publisher Delta and the portal got under BestellenLeveren
    And about Emma publisher Delta sees only start date, expiration date and activation code
    And what the portal gets has no place for activation code
    When the shop sends a licence block for Emma
    Then only publisher Delta and the portal get a licence block for Emma
    And the audit log books what publisher Delta and the portal got under Toegang
    When the shop sends a reinstated licence for Emma
    Then only publisher Delta and the portal get a reinstated licence for Emma
    When the shop sends a transferred licence for Noah
    Then only publisher Delta and the portal get a transferred licence for Noah
    When the shop sends a licence expiry for Noah
    Then only publisher Delta and the portal get a licence expiry for Noah
    And the shop is told "ok"
    And "GEHEIM-1" can be read nowhere

  @R19
  Scenario Outline: After <first> no <next>
    When the shop sends a <first> for Emma
    And the shop sends a <next> for Emma
    Then the shop is told "object.transition"
    And the shop is told so in the words "This kind can not follow what you said of this object before; see the family's schema for the order."
    And publisher Delta gets a <first> for Emma
    And only the portal gets a <first> for Emma

    Examples:
      | first              | next               |
      | licence block      | licence block      |
      | licence block      | changed licence    |
      | licence block      | transferred licence |
      | licence revocation | reinstated licence |
      | licence revocation | changed licence    |
      | licence revocation | licence expiry     |
      | licence expiry     | licence revocation |
      | licence expiry     | licence block      |
      | changed licence    | reinstated licence |

  @R19
  Scenario: The same licence is granted once
    When the shop sends a licence for Emma
      | number | 1 |
    Then only publisher Delta and the portal get a licence for Emma
    When the shop sends a licence for Emma
      | number | 1 |
    Then the shop is told "object.transition"
    And nobody gets anything

  @R19
  Scenario: An older version is not believed
    When the shop sends a changed licence for Emma
      | revision | 1 |
    Then the shop is told "object.stale"
    And nobody gets anything

  @R19
  Scenario: The same message once more is a duplicate
    When the shop sends a changed licence for Emma
    And the shop sends that once more
    Then the shop is told "event.duplicate"
    And publisher Delta gets a changed licence for Emma
    And only the portal gets a changed licence for Emma

  Scenario: For a new receiver the same licence once more, as it is now
    When the shop sends a changed licence for Emma
    And the shop sends that again to publisher Delta
    Then the shop is told "ok"
    And publisher Delta gets a changed licence for Emma
    And publisher Delta gets a changed licence for Emma
    And only the portal gets a changed licence for Emma

  Scenario: One that the broker has never heard of
    When the shop sends a licence block for Emma
      | number | 77 |
    Then the shop is told "ok.unchecked"
    And only publisher Delta and the portal get a licence block for Emma

  Scenario: A licence for the whole school is of nobody
    When the shop sends a licence at De Regenboog
      | holder | school |
      | pieces | 30     |
    Then only publisher Delta and the portal get a licence
