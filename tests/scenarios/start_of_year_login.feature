Feature: The first school day, and a login that does not match yet
  In August pupils log in with an account that the school has not told of yet. Lessons do not wait for that: access comes
  first, and what was used is settled as soon as the school tells who it was (R6b, R3). So it is in PO, VO and MBO (R2).

  @R6b @R3
  Scenario: First use by a login name that nobody knows yet
    Given it is 23 August 2027
    And Emma is at Het Kompas, which has not told of her yet
    When publisher Delta sends a first use of Emma by her login name
    Then publisher Delta is told "subject.waiting"
    And publisher Delta is told so in the words "The local id is not known at the school yet; the event waits for the enrolment."
    And nobody gets anything
    When it becomes 24 August 2027
    And the SIS enrols Emma at Het Kompas
    Then the portal, the shop and the SIS get a first use of Emma
    And nobody else gets anything
    And the portal and the shop know Emma by her ECK iD only
    And the SIS knows Emma by her ECK iD and local id only
    And publisher Delta is told "ok" about the first use of Emma

  @R6b
  Scenario: What Emma did later does not overtake what she did first
    Given Emma is at Het Kompas, which has not told of her yet
    When publisher Delta sends a first use of Emma by her login name
    And publisher Delta sends a progress report about Emma by her login name
    Then 2 messages wait
    When the SIS enrols Emma at Het Kompas
    Then the portal gets a first use of Emma
    And the portal gets a progress report about Emma
    And the shop and the SIS get a first use of Emma
    And nobody else gets anything

  @R6b
  Scenario: A licence for a pupil number that comes with the enrolment
    Given Emma is at Het Kompas, which has not told of her yet
    When the shop sends a licence for Emma by her pupil number
    Then the message waits
    When the SIS enrols Emma at Het Kompas
    Then only publisher Delta and the portal get a licence for Emma
    And publisher Delta and the portal know Emma by her ECK iD only

  Scenario: Another pupil's login is not helped by Emma's enrolment
    Given Emma and Noah will come to Het Kompas
    When publisher Delta sends a first use of Noah by his login name
    And the SIS enrols Emma at Het Kompas
    Then the message waits
    And nobody gets anything

  @R2 @R3 @R6b
  Scenario Outline: What was ordered, licensed and used is of one pupil, in <sector>
    Given Emma is a pupil of <school>
    When <administration> sends an order for Emma
    Then only the shop gets an order for Emma
    And the shop knows Emma by her ECK iD only
    When the shop sends a licence for Emma
    Then only publisher Delta and the portal get a licence for Emma
    And publisher Delta knows Emma by her ECK iD only
    When publisher Delta sends a first use of Emma by her login name
    Then only the portal, the shop and <administration> get a first use of Emma
    And the portal and the shop know Emma by her ECK iD only

    Examples:
      | sector | school       | administration |
      | PO     | De Regenboog | the SIS        |
      | VO     | Het Kompas   | the SIS        |
      | MBO    | De Werf      | SIS Zuid       |
