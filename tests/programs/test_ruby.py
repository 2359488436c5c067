"""ruby: strings, arrays, threads, fibers, compaction of its heap, and processes."""

from support import ProgramTest, main

SCRIPT = r"""
require 'digest'; require 'json'; require 'zlib'; require 'set'
records = (1..20000).map { |i| { id: i, key: Digest::MD5.hexdigest(i.to_s), tail: (1..i % 7).to_a, text: 'x' * (i % 300) } }
puts Digest::MD5.hexdigest(records.sort_by { |r| [r[:key], r[:id]] }.map { |r| "#{r[:id]}:#{r[:key]}" }.join(','))
threads = 8.times.map { |n| Thread.new { (1..400).map { |i| Zlib.inflate(Zlib.deflate(records[i * n].to_json)).size }.sum } }
puts threads.map(&:value).join(' ')
GC.compact if GC.respond_to?(:compact)
fibers = 300.times.map { |n| Fiber.new { s = 'f' * n; Fiber.yield s.size; (s * 10).upcase.size } }
puts fibers.sum { |f| f.resume + f.resume }
puts records.map { |r| r[:key] }.join(' ').gsub(/[0-9]+/) { |m| "<#{m}>" }.scan(/[a-f]+/).tally.sort.first(5).inspect
reader, writer = IO.pipe
4.times do |n|
  fork { reader.close; copy = records.map { |r| r.merge(n: n).to_json.size }.sum; writer.puts "#{n} #{copy}"; exit! 0 }
end
writer.close
puts reader.read.lines.sort
Process.waitall.each { |_, status| raise 'a child failed' unless status.success? }
ractors = 3.times.map { |n| Ractor.new(n) { |m| (1..2000).map { |i| (i * m).to_s * 5 }.join.size } }
puts ractors.map(&:take).join(' ')
puts JSON.parse(JSON.generate(records)).size, Set.new(records.map { |r| r[:tail] }).size
"""


class Ruby(ProgramTest):
    package = "libruby[0-9]*"
    needs = ("ruby",)

    def work(self, run):
        script = run.write("work.rb", SCRIPT)
        run.assert_loads("ruby", "-e", "exit")
        return run.command("ruby", "-W:no-experimental", script).out


if __name__ == "__main__":
    main()
