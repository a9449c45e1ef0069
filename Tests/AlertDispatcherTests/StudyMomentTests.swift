import Foundation
import Testing
import WorkerProtocol

@testable import AlertDispatcher

@Suite struct StudyMomentTests {
    private func moment(_ date: String?, _ time: String?, offset: String? = nil, zone: String = "Europe/Berlin") throws
        -> StudyMoment?
    {
        var study = StudyAttributes()
        (study.date, study.time, study.timezoneOffset) = (date, time, offset)
        return StudyMoment(study, timeZone: try #require(TimeZone(identifier: zone)))
    }

    @Test(
        arguments: [
            // The data set's own offset, whatever the node's zone.
            ("20240506", "070809", "+0100", "Asia/Tokyo", "2024-05-06T06:08:09Z", "20240506070809+0100"),
            ("20240506", "070809.999999", "-0330", "Asia/Tokyo", "2024-05-06T10:38:09Z", "20240506070809-0330"),
            ("20240506", "000000", "+1400", "UTC", "2024-05-05T10:00:00Z", "20240506000000+1400"),
            ("20240506", "235959", "-1200", "UTC", "2024-05-07T11:59:59Z", "20240506235959-1200"),
            // The node's, in summer and in winter, on both sides of the equator, and where it is no whole hour.
            ("20240706", "120000", nil, "Europe/Berlin", "2024-07-06T10:00:00Z", "20240706120000+0200"),
            ("20240106", "120000", nil, "Europe/Berlin", "2024-01-06T11:00:00Z", "20240106120000+0100"),
            ("20240706", "120000", nil, "Australia/Sydney", "2024-07-06T02:00:00Z", "20240706120000+1000"),
            ("20240106", "120000", nil, "Australia/Sydney", "2024-01-06T01:00:00Z", "20240106120000+1100"),
            ("20240106", "120000", nil, "Asia/Kathmandu", "2024-01-06T06:15:00Z", "20240106120000+0545"),
            ("20240106", "120000", nil, "America/St_Johns", "2024-01-06T15:30:00Z", "20240106120000-0330"),
            ("20240106", "120000", nil, "Pacific/Kiritimati", "2024-01-05T22:00:00Z", "20240106120000+1400"),
            // An offset that is none does not count.
            ("20240106", "120000", "+1500", "Europe/Berlin", "2024-01-06T11:00:00Z", "20240106120000+0100"),
            ("20240106", "120000", "-1230", "Europe/Berlin", "2024-01-06T11:00:00Z", "20240106120000+0100"),
            ("20240106", "120000", "+0160", "Europe/Berlin", "2024-01-06T11:00:00Z", "20240106120000+0100"),
            ("20240106", "120000", "0100", "Europe/Berlin", "2024-01-06T11:00:00Z", "20240106120000+0100"),
        ] as [(String, String, String?, String, String, String)])
    func theDataSetsOffsetCountsElseTheNodesZone(
        date: String, time: String, offset: String?, zone: String, utc: String, hl7: String
    ) throws {
        let found = try #require(try moment(date, time, offset: offset, zone: zone))
        #expect(found.latest == (try Date(utc, strategy: .iso8601)))
        #expect(found.hl7 == hl7)
    }

    @Test(
        arguments: [
            // Europe/Berlin, 31 March 2024: 02:00 +0100 becomes 03:00 +0200.
            ("20240331", "015959", "Europe/Berlin", "2024-03-31T00:59:59Z", "+0100"),
            ("20240331", "020000", "Europe/Berlin", "2024-03-31T01:00:00Z", "+0100"),
            ("20240331", "023000", "Europe/Berlin", "2024-03-31T01:30:00Z", "+0100"),
            ("20240331", "030000", "Europe/Berlin", "2024-03-31T01:00:00Z", "+0200"),
            // 27 October 2024: 03:00 +0200 becomes 02:00 +0100; the second 02:30 is the later.
            ("20241027", "015959", "Europe/Berlin", "2024-10-26T23:59:59Z", "+0200"),
            ("20241027", "023000", "Europe/Berlin", "2024-10-27T01:30:00Z", "+0100"),
            ("20241027", "030000", "Europe/Berlin", "2024-10-27T02:00:00Z", "+0100"),
            // Half an hour: Lord Howe, 7 April 2024, 02:00 +1100 becomes 01:30 +1030.
            ("20240407", "014500", "Australia/Lord_Howe", "2024-04-06T15:15:00Z", "+1030"),
            ("20240407", "012900", "Australia/Lord_Howe", "2024-04-06T14:29:00Z", "+1100"),
            // Where clocks were put forward at midnight: Beirut 2024, 31 March.
            ("20240331", "000000", "Asia/Beirut", "2024-03-30T22:00:00Z", "+0200"),
            // A day that Samoa did not have: 30 December 2011.
            ("20111230", "120000", "Pacific/Apia", "2011-12-30T22:00:00Z", "-1000"),
        ])
    func clocksThatChangeMakeNoStudyOlder(
        date: String, time: String, zone: String, utc: String, offset: String
    ) throws {
        let found = try #require(try moment(date, time, zone: zone))
        #expect(found.latest == (try Date(utc, strategy: .iso8601)))
        #expect(found.hl7 == date + time + offset)
    }

    @Test(
        arguments: [
            ("20240506", nil, "2024-05-06T23:59:59Z", "20240506"), ("20240506", "", "2024-05-06T23:59:59Z", "20240506"),
            ("20240506", "25", "2024-05-06T23:59:59Z", "20240506"),
            ("20240506", "07", "2024-05-06T07:59:59Z", "2024050607+0000"),
            ("20240506", "0708", "2024-05-06T07:08:59Z", "202405060708+0000"),
            ("20240506", "0799", "2024-05-06T07:59:59Z", "2024050607+0000"),
            ("20240506", "07:08:09", "2024-05-06T07:08:09Z", "20240506070809+0000"),
            ("2024.05.06", "070860", "2024-05-06T07:08:59Z", "20240506070859+0000"),
            ("20240229", "070809", "2024-02-29T07:08:09Z", "20240229070809+0000"),
        ] as [(String, String?, String, String)])
    func whatIsLeftOpenIsAsLateAsItCanBe(date: String, time: String?, utc: String, hl7: String) throws {
        let found = try #require(try moment(date, time, zone: "UTC"))
        #expect(found.latest == (try Date(utc, strategy: .iso8601)))
        #expect(found.hl7 == hl7)
    }

    @Test(
        arguments: [
            nil, "", "2024", "202405", "20240532", "20240230", "20230229", "2024-05-06", "2024.0506", "２０２４０５０６",
        ])
    func withoutADateNothingIsKnown(date: String?) throws {
        #expect(try moment(date, "070809") == nil)
    }
}
