Feature: A pupil is erased
  The school's own term is over, or parents ask for it: the SIS has Emma erased. Nothing in the broker leads to her any more, not
  even from what was signed about her; what was signed stays, and the school can show that somebody was erased (R19, R28).

  Background:
    Given it is 16 November 2026
    And Emma, Noah are pupils of De Regenboog

  @R19 @R28
  Scenario: Nothing leads to her any more, and everybody else stays
    When publisher Delta sends a use of Emma at De Regenboog
    Then only the portal, the shop and the SIS get a use of Emma
    When publisher Delta sends a use of Noah at De Regenboog
    Then only the portal, the shop and the SIS get a use of Noah
    When the SIS erases Emma at De Regenboog
    Then the audit log tells of 1 erasure at De Regenboog, and not of whom
    And no key is left by which the audit log leads to Emma
    And the audit log still leads to Noah
    When publisher Delta sends a use of Emma at De Regenboog
    Then publisher Delta is told "subject.unknown"
    And nobody gets anything
    When publisher Delta sends a use of Noah at De Regenboog
    Then only the portal, the shop and the SIS get a use of Noah

  @R19
  Scenario: Of who was enrolled twice, both enrolments are erased
    Given the SIS enrolled Emma at De Regenboog once more, as "DUBBEL7"
    When publisher Delta sends a use of Emma at De Regenboog
    Then only the portal, the shop and the SIS get a use of Emma
    When the SIS makes the two enrolments of Emma at De Regenboog one
    And the SIS erases Emma at De Regenboog
    Then the audit log tells of 1 erasure at De Regenboog, and not of whom
    And 2 keys of Emma are forgotten
    And no key is left by which the audit log leads to Emma

  Scenario: Who is enrolled again is somebody new
    When publisher Delta sends a use of Emma at De Regenboog
    And the SIS erases Emma at De Regenboog
    And the SIS enrols Emma at De Regenboog
    Then no key is left by which the audit log leads to Emma

  Scenario: Who is not known can not be erased
    Given Bram will come to De Regenboog
    When the SIS erases Bram at De Regenboog
    Then the SIS is told "subject.unknown"
    And the audit log tells of 0 erasures at De Regenboog, and not of whom
