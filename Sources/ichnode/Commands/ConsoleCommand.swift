import ArgumentParser
import Console
import Foundation
import Glibc

struct ConsoleCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "console", abstract: "Make what lets users and programs into the console.",
        subcommands: [HashPassword.self, Token.self])

    struct HashPassword: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "hash-password", abstract: "Print the hash of a password for console.users.",
            discussion: """
                Asks for it twice on a terminal, else reads it from standard input, without the line end. It has at \
                least \(PasswordHash.leastCharacters) characters.
                """)

        func run() async throws {
            try await Terminal.run {
                let password = try PasswordPrompt.read()
                guard password.count >= PasswordHash.leastCharacters else {
                    throw CommandFailure(
                        .failed, "the password is too short: take \(PasswordHash.leastCharacters) characters or more")
                }
                guard password.utf8.count <= PasswordHash.mostBytes else {
                    throw CommandFailure(.failed, "the password has more than \(PasswordHash.mostBytes) bytes")
                }
                guard let hash = PasswordHash(of: password) else {
                    throw CommandFailure(
                        .failed, "scrypt was refused: free 32 MiB of memory, or let OpenSSL's policy have it")
                }
                Terminal.say(hash.text)
            }
        }
    }

    struct Token: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Draw a token for a program, and print it once with its entry for console.tokens.",
            discussion: "The program sends it in each request: Authorization: Bearer TOKEN")

        @Argument(help: "What the audit trail calls the program.")
        var name: String

        @Option(help: "viewer or operator.", transform: Self.role)
        var role = Role.viewer

        private static func role(_ text: String) throws -> Role {
            guard let role = Role(rawValue: text) else { throw ValidationError("a role is viewer or operator") }
            return role
        }

        func run() async throws {
            let token = APIToken.draw()
            Terminal.say(
                """
                The token, shown only now: \(token)
                Its entry below console.tokens:
                    - name: \(name)
                      role: \(role.rawValue)
                      sha256: "\(APIToken.digest(of: token))"
                """)
        }
    }
}

/// A password that nobody sees.
enum PasswordPrompt {
    static func read() throws -> String {
        guard isatty(STDIN_FILENO) == 1 else { return try line() }
        let first = try asked("Password: ")
        guard try asked("Again: ") == first else { throw CommandFailure(.failed, "the two passwords differ") }
        return first
    }

    private static func asked(_ question: String) throws -> String {
        var settings = termios()
        guard tcgetattr(STDIN_FILENO, &settings) == 0 else {
            throw CommandFailure(.failed, "the terminal cannot be told to hide what is typed")
        }
        var hidden = settings
        hidden.c_lflag &= ~tcflag_t(ECHO)
        // What was typed before is thrown away: the question comes after that.
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden)
        FileHandle.standardError.write(Data(question.utf8))
        defer {
            tcsetattr(STDIN_FILENO, TCSAFLUSH, &settings)
            FileHandle.standardError.write(Data("\n".utf8))
        }
        return try line()
    }

    private static func line() throws -> String {
        guard let line = readLine(strippingNewline: true), !line.isEmpty else {
            throw CommandFailure(.failed, "no password was given")
        }
        return line
    }
}
