Feature: A school changes its supplier in January
  The agreement with publisher Delta ends with the year. From then on nothing is delivered there, but what closes something;
  Delta is asked, once, to destroy what it has (R5, R27). The new supplier gets the current data from those who have them.

  Background:
    Given it is 30 November 2026
    And Emma is a pupil of Het Kompas
    And the shop sent a licence for Emma
    And the agreement of Het Kompas with publisher Delta ends on 31 December 2026

  @R5
  Scenario: Till midnight of the last day all is as it was
    When it becomes 31 December 2026 at 23:59
    And the shop sends a changed licence for Emma
    Then only publisher Delta and the portal get a changed licence for Emma

  @R5 @R27
  Scenario: After it, nothing is delivered any more
    When it becomes 4 January 2027
    Then only publisher Delta gets a request to destroy
    When the shop sends a changed licence for Emma
    Then only the portal gets a changed licence for Emma
    When the shop sends a changed licence for Emma to publisher Delta
    Then the shop is told "gate.agreement"
    And nobody gets anything
    When the SIS sends a group membership of Emma to publisher Delta
    Then the SIS is told "gate.agreement"
    And nobody gets anything

  @R19
  Scenario: What closes a licence still comes, for two months
    When it becomes 4 January 2027
    Then only publisher Delta gets a request to destroy
    When the shop sends a licence revocation for Emma
      | end date | 31 December 2026 |
    Then only publisher Delta and the portal get a licence revocation for Emma
    And about Emma publisher Delta sees nothing more
    And about Emma the portal sees only effective at and end date
    When it becomes 4 March 2027
    And the shop sends a licence revocation for Emma to publisher Delta
    Then the shop is told "gate.agreement"
    And nobody gets anything

  @R5
  Scenario: Delta is asked once to destroy what it has, and confirms it
    When it becomes 1 January 2027 at 00:00
    Then only publisher Delta gets a request to destroy
    And it tells publisher Delta
      | reason       | agreement ended |
      | agreement id | vwo-vo-delta    |
      | deadline     | 31 January 2027 |
    And the control log holds a request to destroy to publisher Delta
    When it becomes 2 January 2027
    Then nobody gets anything
    When publisher Delta sends a confirmation of destruction at Het Kompas to the SIS
      | agreement id | vwo-vo-delta |
      | count        | 412          |
    Then only the SIS gets a confirmation of destruction
    And it tells the SIS
      | count | 412 |
    And the control log holds a confirmation of destruction by publisher Delta
    And the control log holds 1 request to destroy

  Scenario: Renewed in time, nothing has to be destroyed
    Given Het Kompas makes with publisher Delta the same agreement as with publisher Delta
    When it becomes 4 January 2027
    Then nobody gets anything
    When the shop sends a changed licence for Emma
    Then only publisher Delta and the portal get a changed licence for Emma
    And the audit log rests what publisher Delta got on the agreement "nieuw-uitgeverij-delta"

  @R5
  Scenario: The new supplier begins with the current data
    When it becomes 4 January 2027
    Then only publisher Delta gets a request to destroy
    When Het Kompas makes with publisher Oost the same agreement as with publisher Delta
    And the SIS sends a group membership of Emma to publisher Oost
    Then the SIS is told "gate.connection"
    When the SIS accepts the link for groups from the SIS to publisher Oost at Het Kompas
    Then publisher Oost gets a link acceptance
    And only the SIS gets a request for all current data
    And it tells the SIS
      | reason      | connection accepted |
      | other party | publisher Oost      |
      | service     | groups              |
    And the control log holds a request for all current data to the SIS
    When the SIS sends a group membership of Emma to publisher Oost
    Then only publisher Oost gets a group membership of Emma
    When the SIS sends an end of all current data at Het Kompas to publisher Oost
    Then only publisher Oost gets an end of all current data

  @R5 @R15
  Scenario: The new supplier hears how the groups are now, and not how they came to be so
    Given Noah and Sara are pupils of Het Kompas
    And the SIS sent a group at Het Kompas
      | group      | g3 |
      | group name | 3b |
    And the SIS sent a group membership of Emma
      | groups | g3 |
    And the SIS sent a group membership of Noah
      | groups | g3 |
    And the SIS sent a group at Het Kompas
      | group      | g3        |
      | group name | 3b Bakker |
    And the SIS sent a group membership of Emma
      | groups | g3, g3-wiskunde |
    And the SIS sent a group membership of Sara
      | groups | g3 |
    And the SIS sent a departure of Noah
    When Het Kompas makes with publisher Oost the same agreement as with publisher Delta
    And the SIS accepts the link for groups from the SIS to publisher Oost at Het Kompas
    Then publisher Oost gets a link acceptance
    And only the SIS gets a request for all current data
    When the SIS answers the request for all current data
    Then publisher Oost gets a group
    And it tells publisher Oost
      | group name | 3b Bakker |
    And publisher Oost gets a group membership of Emma
    And it tells publisher Oost
      | groups | g3, g3-wiskunde |
    And publisher Oost gets a group membership of Sara
    And only publisher Oost gets an end of all current data
    And it tells publisher Oost
      | count | 3 |

  @R5
  Scenario: The old supplier gets none of it
    When it becomes 4 January 2027
    And Het Kompas makes with publisher Oost the same agreement as with publisher West
    And the SIS accepts the link for groups from the SIS to publisher Oost at Het Kompas
    And the SIS sends a group membership of Emma
    Then publisher Delta gets a request to destroy
    And publisher Delta gets nothing else
