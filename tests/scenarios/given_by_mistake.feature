Feature: Given by mistake
  The administration sent the portal a group of a pupil of whom it should have sent nothing. The school asks the portal to
  destroy it, with a last day. What was asked and what was confirmed stand on the control log, whoever asked, till somebody
  looks; of the pupil nothing stands there (R23).

  Background:
    Given it is 24 November 2026
    And Emma is a pupil of De Regenboog
    And the SIS sent a group membership of Emma to the portal

  @R23
  Scenario: The school asks, and the portal confirms
    When the SIS sends a request to destroy for Emma to the portal
      | reason       | given by mistake |
      | deadline     | 1 December 2026  |
      | agreement id | vwo-po-portaal   |
    Then only the portal gets a request to destroy for Emma
    And the control log holds a request to destroy to the portal
    And the control log holds a request to destroy by the SIS
    When it becomes 1 December 2026
    Then no request to destroy is overdue
    When it becomes 2 December 2026
    Then 1 request to destroy is overdue
    When the portal sends a confirmation of destruction at De Regenboog to the SIS
      | count | 1 |
    Then only the SIS gets a confirmation of destruction
    And the control log holds a confirmation of destruction by the portal
    And no request to destroy is overdue

  @R23
  Scenario: What nobody got asks nothing
    When the SIS sends a request to destroy for Emma to SIS Zuid
      | reason   | given by mistake |
      | deadline | 1 December 2026  |
    Then the SIS is told "gate.route"
    And the control log holds no requests to destroy
