Feature: A supplier that asks too much
  Publisher Delta says that it needs birth dates, gender and parents' addresses of everybody. The school sends all it has; the
  broker lets pass what the agreement names. The audit log shows by name what was asked, kept and dropped (R17), the same
  for each pupil: never from what was filled in, since that alone can tell something of a pupil (R15).

  Background:
    Given it is 24 November 2026
    And Emma and Noah are pupils of De Regenboog

  @R17 @R15
  Scenario: What was asked, kept and dropped
    When the SIS sends a group membership of Emma to publisher Delta
      | groups        | g7a                      |
      | given name    | Emma                     |
      | family name   | Jansen                   |
      | birth date    | 3 May 2016               |
      | gender        | female                   |
      | parent email  | ouders.emma@mail.example |
      | year group    | 7                        |
    Then only publisher Delta gets a group membership of Emma
    And about Emma publisher Delta sees only groups, given name, family name and year group
    And the audit log says that publisher Delta got exactly ECK iD, group id, group name, given name, family name, school subject id, level and year group
    And the audit log says that publisher Delta did not get birth date, gender, parent email, initials and school email
    And the audit log rests what publisher Delta got on the agreement "vwo-po-delta"

  @R17 @R15
  Scenario: Of a pupil of whom much is filled in and one of whom little is, the log says the same
    When the SIS sends a group membership of Emma to publisher Delta
      | given name   | Emma                     |
      | birth date   | 3 May 2016               |
      | parent email | ouders.emma@mail.example |
    And the SIS sends a group membership of Noah to publisher Delta
    Then the audit log tells the two deliveries apart by nothing but their bytes

  @R17
  Scenario: No value stands in the log
    When the SIS sends a group membership of Emma to publisher Delta
      | given name   | Emmaline                 |
      | parent email | ouders.emma@mail.example |
    Then only publisher Delta gets a group membership of Emma
    And "Emmaline" can be read nowhere
    And "ouders.emma@mail.example" can be read nowhere

  @R17
  Scenario: A supplier that writes it into its agreement is not taken at its word
    When the agreement of De Regenboog with publisher Delta is handed in, and also promises ethnicity
    Then the registry refuses it, because of "ethnicity never passes, so no agreement may promise it"

  @R17
  Scenario: What a supplier asks and does not get by the agreement stands in the log too
    When publisher Delta sends a result of Emma to the shop
    Then publisher Delta is told "gate.route" for the shop
    And the audit log has the refusal "gate.route"
    And nobody gets anything

  @R17 @R15
  Scenario: An attribute that the policy has no rule for does not pass
    Given the policy has no rule for year group
    When the SIS sends a group membership of Emma to publisher Delta
      | year group | 7 |
    Then only publisher Delta gets a group membership of Emma
    And about Emma publisher Delta sees only groups
