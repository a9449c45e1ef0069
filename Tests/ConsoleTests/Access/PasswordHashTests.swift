import Foundation
import Testing

@testable import Console

@Suite struct PasswordHashTests {
    /// RFC 7914 §12, without the one that takes 1 GiB.
    @Test(arguments: [
        ("", "", 4, 1, 1, "77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442"),
        ("password", "NaCl", 10, 8, 16, "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162"),
        (
            "pleaseletmein", "SodiumChloride", 14, 8, 1,
            "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
        ),
    ])
    func givesTheVectorsOfTheRFC(password: String, salt: String, logN: Int, r: Int, p: Int, hash: String) {
        // The first half of the 64 bytes: PBKDF2 works out block after block.
        let found = PasswordHash.scrypt(password, Array(salt.utf8), logN: logN, r: r, p: p, count: 32)
        #expect(found?.map { String(format: "%02x", $0) }.joined() == hash)
    }

    private static let salt = "AAECAwQFBgcICQoLDA0ODw"
    private static let hash = "ikKPemj5QQtFYut78rUxRFQWyVagMIehX9iNR3YyczQ"

    /// Written by Python's hashlib.scrypt.
    @Test func readsWhatOthersWrote() throws {
        let hash = try #require(PasswordHash("$scrypt$ln=15,r=8,p=1$\(Self.salt)$\(Self.hash)"))
        #expect(hash.matches("korrektes Pferd ä") == true)
        #expect(hash.matches("korrektes Pferd a") == false)
        #expect(hash.matches("") == false)
        #expect(hash.matches("korrektes Pferd ä ") == false)
    }

    @Test func writesWhatItReads() throws {
        let made = try #require(PasswordHash(of: "correct horse battery"))
        let read = try #require(PasswordHash(made.text))
        #expect(read == made && read.matches("correct horse battery") == true)
        #expect(PasswordHash(of: "correct horse battery") != made, "each has a salt of its own")
    }

    @Test func anOverlongPasswordIsNotWorkedOut() throws {
        let longest = String(repeating: "x", count: PasswordHash.mostBytes)
        let hash = try #require(PasswordHash(of: longest))
        #expect(hash.matches(longest) == true)
        #expect(PasswordHash(of: longest + "x")?.matches(longest + "x") == false)
    }

    /// OpenSSL refuses N = 1 as it refuses what it finds no memory for.
    @Test func whatCannotBeWorkedOutIsNoMatch() async throws {
        var hash = try #require(PasswordHash("$scrypt$ln=15,r=8,p=1$\(Self.salt)$\(Self.hash)"))
        hash.logN = 0
        #expect(hash.matches("korrektes Pferd ä") == nil)
        #expect(await PasswordDesk().compare("korrektes Pferd ä", hash) == .compared(nil))
    }

    @Test func nobodyIsAsCostlyAsTheCostliest() throws {
        let usual = PasswordHash(ofNobodyLike: [])
        #expect((usual.logN, usual.r, usual.p) == (15, 8, 1))
        #expect(PasswordHash(ofNobodyLike: []).hash != usual.hash)
        let costly = try #require(PasswordHash("$scrypt$ln=16,r=9,p=2$\(Self.salt)$\(Self.hash)"))
        let nobody = PasswordHash(ofNobodyLike: [usual, costly])
        #expect((nobody.logN, nobody.r, nobody.p) == (16, 9, 2))
        #expect(nobody.salt.count == 16 && nobody.hash.count == 32 && nobody.hash != costly.hash)
    }

    @Test(arguments: [
        "", "secret", "$scrypt$ln=15,r=8,p=1$\(salt)", "$2b$12$abcdefghijklmnopqrstuv",
        "$argon2id$ln=15,r=8,p=1$\(salt)$\(hash)",
        "$scrypt$ln=13,r=8,p=1$\(salt)$\(hash)", "$scrypt$ln=18,r=8,p=1$\(salt)$\(hash)",
        "$scrypt$ln=15,r=7,p=1$\(salt)$\(hash)", "$scrypt$ln=15,r=17,p=1$\(salt)$\(hash)",
        "$scrypt$ln=15,r=8,p=0$\(salt)$\(hash)", "$scrypt$ln=15,r=8,p=5$\(salt)$\(hash)",
        "$scrypt$r=8,ln=15,p=1$\(salt)$\(hash)", "$scrypt$ln=15,r=8$\(salt)$\(hash)",
        "$scrypt$ln=+15,r=8,p=1$\(salt)$\(hash)", "$scrypt$ln=015,r=8,p=1$\(salt)$\(hash)",
        "$scrypt$ln=15,r=8,p=1$\(salt)==$\(hash)", "$scrypt$ln=15,r=8,p=1$AAEC$\(hash)",
        "$scrypt$ln=15,r=8,p=1$\(salt)$\(salt)", "$scrypt$ln=15,r=8,p=1$\(salt)$\(hash)$",
        "$scrypt$ln=15,r=8,p=1$\(salt)$not base64", "x$scrypt$ln=15,r=8,p=1$\(salt)$\(hash)",
    ])
    func refusesWhatIsNone(text: String) { #expect(PasswordHash(text) == nil) }
}
