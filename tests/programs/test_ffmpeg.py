"""ffmpeg: frames made, filtered, encoded by several threads and decoded again, with buffers that move between them."""

from support import ProgramTest, main


class Ffmpeg(ProgramTest):
    needs = ("ffmpeg", "ffprobe")

    def work(self, run):
        tool = ["ffmpeg", "-nostdin", "-v", "error", "-bitexact", "-y"]
        made = ["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=4", "-f", "lavfi", "-i", "sine=frequency=440:duration=4"]
        output = run.commands(
            [*tool, *made, "-threads", "4", "-c:v", "mpeg4", "-q:v", "4", "-c:a", "aac", "-flags", "+bitexact", "one.mkv"],
            [*tool, "-threads", "4", "-i", "one.mkv", "-f", "framemd5", "-"],
            [*tool, "-i", "one.mkv", "-filter_complex", "[0:v]split=3[a][b][c];[a]scale=160:90[d];[b]hue=h=90,scale=160:90[e];"
             "[d][e]hstack[f];[c]gblur=3[g];[g][f]vstack", "-threads", "4", "-c:v", "ffv1", "-slices", "4", "two.mkv"],
            [*tool, "-threads", "4", "-thread_type", "slice", "-i", "two.mkv", "-map", "0:v", "-f", "framemd5", "-"],
            [*tool, "-i", "one.mkv", "-frames:v", "10", "frame%02d.png"],
            ["ffprobe", "-v", "error", "-bitexact", "-show_streams", "-of", "json", "one.mkv"],
            ["sh", "-c", "cksum frame*.png"])
        run.assert_loads("ffmpeg", "-nostdin", "-v", "error", *made, "-frames:v", "1", "-f", "null", "-")
        return output


if __name__ == "__main__":
    main()
